#include "team.h"

#include <pthread.h>
#include <sys/stat.h>

namespace gnnscale {
namespace {

bool parent_has_threads = false, forked_beside_threads = false;

// A folder's links are itself, its name above, and one for each folder in it: here, for each thread.
void look_for_threads() {
    struct stat tasks;
    parent_has_threads = stat("/proc/self/task", &tasks) != 0 || tasks.st_nlink > 3;
}

[[maybe_unused]] const int kRegistered =
    pthread_atfork(look_for_threads, nullptr, [] { forked_beside_threads |= parent_has_threads; });

}  // namespace

bool may_have_threads() { return !forked_beside_threads; }

}  // namespace gnnscale
