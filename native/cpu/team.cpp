#include "team.h"

#include <dirent.h>
#include <pthread.h>

#include <fstream>
#include <string>

namespace gnnscale {
namespace {

bool parent_has_threads = false, forked_beside_threads = false;

std::string name_of(const std::string& thread) {
    std::string name;
    std::getline(std::ifstream("/proc/" + thread + "/comm"), name);
    return name;
}

// OpenMP's threads have the name of the thread that started them; those of an allocator, which do no harm, their own.
void look_for_threads() {
    const std::string own = name_of("thread-self");
    int same = 0;
    if (DIR* folder = opendir("/proc/self/task")) {
        while (const dirent* entry = readdir(folder))
            same += entry->d_name[0] != '.' && name_of("self/task/" + std::string(entry->d_name)) == own;
        closedir(folder);
    }
    parent_has_threads = same != 1;
}

[[maybe_unused]] const int kRegistered =
    pthread_atfork(look_for_threads, nullptr, [] { forked_beside_threads |= parent_has_threads; });

}  // namespace

bool may_have_threads() { return !forked_beside_threads; }

}  // namespace gnnscale
