// The Python face of reading and writing tables of rows.
#include "bind.h"
#include "table.h"

namespace gnnscale::gpu {
namespace {

using Bytes = Reached<uint8_t, 2>;
using Scales = std::optional<Reached<float, 1>>;
using Steps = std::optional<Reached<int32_t, 1>>;

Table table_of(const Bytes& rows, int64_t width, int type, const Scales& scales, const Steps& written) {
    require(type >= 0 && type <= static_cast<int>(RowType::kInt8), "rows of that type are not known.");
    const auto row_type = static_cast<RowType>(type);
    require(std::visit([](const auto& view) { return static_cast<int64_t>(view.shape(1)); }, rows) ==
                width * item_bytes(row_type),
            "rows are not of that width.");
    require((row_type == RowType::kInt8) == scales.has_value(), "scales are for int8, and needed there.");
    return {address(rows), width, row_type, address(scales), address(written)};
}

using Words = std::optional<TensorView<int32_t, 1, Device>>;

void bind_read_rows(const Bytes& rows, int64_t width, int type, const Scales& scales, const Steps& written,
                    const Words& slots, const std::optional<TensorView<uint8_t, 2, Device>>& hot_rows,
                    const std::optional<Floats<1>>& hot_scales, const std::optional<Numbers>& hits,
                    const Words& accesses, const Numbers& ids, const Floats<2>& out, const Words& steps,
                    Stream stream) {
    const Table table = table_of(rows, width, type, scales, written);
    if (slots) {
        const auto num_rows = std::visit([](const auto& view) { return view.shape(0); }, rows);
        require(hot_rows && hits && hits->size() == 1, "slots come with rows and with the number of hits.");
        require(slots->size() == num_rows && (!accesses || accesses->size() == num_rows),
                "slots or accesses are not of this table.");
        require(static_cast<int64_t>(hot_rows->shape(1)) == width * item_bytes(table.type) &&
                    hot_scales.has_value() == scales.has_value(),
                "the copies of rows are not stored as the rows are.");
    }
    const Hot hot = {data(slots), data(hot_rows), data(hot_scales), data(hits), data(accesses)};
    require(out.shape(0) == ids.size() && static_cast<int64_t>(out.shape(1)) == width, "out does not fit.");
    require(!steps || (table.written && steps->size() == ids.size()), "steps do not fit.");
    const OnDevice device(out.device_id());
    read_rows(table, hot, ids.data(), static_cast<int64_t>(ids.size()), out.data(), data(steps), stream);
}

void bind_encode_rows(const Floats<2>& rows, int type, const TensorView<uint8_t, 2, Device>& stored,
                      const std::optional<Floats<1>>& scales, Stream stream) {
    require(type >= 0 && type <= static_cast<int>(RowType::kInt8), "rows of that type are not known.");
    const auto row_type = static_cast<RowType>(type);
    require(stored.shape(0) == rows.shape(0) &&
                static_cast<int64_t>(stored.shape(1)) == static_cast<int64_t>(rows.shape(1)) * item_bytes(row_type),
            "stored does not fit the rows.");
    require((row_type == RowType::kInt8) == scales.has_value(), "scales are for int8, and needed there.");
    const OnDevice device(rows.device_id());
    encode_rows(rows.data(), static_cast<int64_t>(rows.shape(0)), static_cast<int64_t>(rows.shape(1)), row_type,
                stored.data(), data(scales), stream);
}

void bind_write_rows(const Bytes& rows, int64_t width, int type, const Scales& scales, const Steps& written,
                     const Numbers& ids, const Numbers& last, const TensorView<uint8_t, 2, Device>& stored,
                     const std::optional<Floats<1>>& stored_scales, int32_t step, Stream stream) {
    const Table table = table_of(rows, width, type, scales, written);
    require(stored.shape(0) == ids.size() && last.size() == ids.size(), "ids and rows differ in number.");
    require(static_cast<int64_t>(stored.shape(1)) == width * item_bytes(table.type), "rows are not of that width.");
    require(!scales == !stored_scales, "scales of the rows are missing.");
    const OnDevice device(ids.device_id());
    write_rows(table, ids.data(), last.data(), static_cast<int64_t>(ids.size()), stored.data(), data(stored_scales),
               step, stream);
}

}  // namespace

void bind_table(nb::module_& m) {
    m.def("read_rows", bind_read_rows, "rows"_a, "width"_a, "type"_a, "scales"_a.none(), "written"_a.none(),
          "slots"_a.none(), "hot_rows"_a.none(), "hot_scales"_a.none(), "hits"_a.none(), "accesses"_a.none(), "ids"_a,
          "out"_a, "steps"_a.none(), "stream"_a);
    m.def("encode_rows", bind_encode_rows, "rows"_a, "type"_a, "stored"_a, "scales"_a.none(), "stream"_a);
    m.def("write_rows", bind_write_rows, "rows"_a, "width"_a, "type"_a, "scales"_a.none(), "written"_a.none(),
          "ids"_a, "last"_a, "stored"_a, "stored_scales"_a.none(), "step"_a, "stream"_a);
}

}  // namespace gnnscale::gpu
