// The module: each family of operations has a file of its own, bind_*.cpp.
#include <nanobind/nanobind.h>

namespace nb = nanobind;

namespace gnnscale {

void bind_attention(nb::module_& m);
void bind_history(nb::module_& m);
void bind_rmat(nb::module_& m);
void bind_rows(nb::module_& m);
void bind_sampling(nb::module_& m);
void bind_sparse(nb::module_& m);
void bind_subgraph(nb::module_& m);
void bind_sparse_rows(nb::module_& m);
void bind_walks(nb::module_& m);

}  // namespace gnnscale

NB_MODULE(_native, m) {
    using namespace gnnscale;
    // A store may live as long as the interpreter; that is no leak that a user should read of.
    nb::set_leak_warnings(false);
#ifdef _OPENMP
    m.attr("has_threads") = true;
#else
    m.attr("has_threads") = false;
#endif
    bind_sampling(m);
    bind_subgraph(m);
    bind_walks(m);
    bind_sparse(m);
    bind_sparse_rows(m);
    bind_rows(m);
    bind_attention(m);
    bind_history(m);
    bind_rmat(m);
}
