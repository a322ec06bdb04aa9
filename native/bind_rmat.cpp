// The Python face of the R-MAT generator.
#include "rmat.h"

#include <utility>

#include "bind.h"

namespace gnnscale {
namespace {

nb::tuple bind_draw_rmat(int levels, Vector<const int64_t> table, Vector<const int32_t> relabel, uint64_t key,
                         int64_t draws, int64_t most, bool directed, int num_threads) {
    RmatGraph graph;
    {
        nb::gil_scoped_release release;
        graph = draw_rmat({static_cast<int64_t>(relabel.size()), levels, table.data(), relabel.data(), key,
                           draws, most, directed, num_threads});
    }
    return nb::make_tuple(to_tensor(std::move(graph.indptr)), to_tensor(std::move(graph.indices)), graph.found);
}

}  // namespace

void bind_rmat(nb::module_& m) {
    m.def("draw_rmat", bind_draw_rmat, "levels"_a, "table"_a.noconvert(), "relabel"_a.noconvert(), "key"_a,
          "draws"_a, "most"_a, "directed"_a, "num_threads"_a);
}

}  // namespace gnnscale
