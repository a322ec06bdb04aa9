// The Python face of tables of rows and of transfers.

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "bind.h"
#include "journal.h"
#include "transfers.h"

namespace gnnscale {
namespace {

// A table with the arrays that it views, so that it cannot outlive them. Operations under way do not hold
// them: close or flush the transfers before the memory goes.
struct TableView {
    RowTable table;
    Matrix<uint8_t> rows;
    std::optional<Vector<float>> scales;
    std::optional<Vector<int32_t>> written, versions;
    std::optional<Vector<uint8_t>> journal;

    TableView(Matrix<uint8_t> rows_, int64_t width, int type, std::optional<Vector<float>> scales_,
              std::optional<Vector<int32_t>> written_, std::optional<Vector<int32_t>> versions_,
              std::optional<Vector<uint8_t>> journal_)
        : rows(std::move(rows_)),
          scales(std::move(scales_)),
          written(std::move(written_)),
          versions(std::move(versions_)),
          journal(std::move(journal_)) {
        if (type < 0 || type > 3)
            throw std::invalid_argument("type=" + std::to_string(type) +
                                        " has to be 0 (float32), 1 (float16), 2 (bfloat16) or 3 (int8)");
        table = {reinterpret_cast<std::byte*>(rows.data()),
                 static_cast<int64_t>(rows.shape(0)),
                 width,
                 static_cast<RowType>(type),
                 scales ? scales->data() : nullptr,
                 written ? written->data() : nullptr,
                 versions ? reinterpret_cast<uint32_t*>(versions->data()) : nullptr,
                 journal ? reinterpret_cast<std::byte*>(journal->data()) : nullptr};
        if (static_cast<int64_t>(rows.shape(1)) != table.row_bytes())
            throw std::invalid_argument("rows have " + std::to_string(rows.shape(1)) +
                                        " bytes; a row of width=" + std::to_string(width) + " has " +
                                        std::to_string(table.row_bytes()));
        if (scales.has_value() != (table.type == RowType::kInt8))
            throw std::invalid_argument("scales are for int8 (type=3), and needed there");
        if (versions.has_value() != journal.has_value())
            throw std::invalid_argument("versions and journal go together; pass both or neither");
        check_length("scales", scales, table.num_rows);
        check_length("written", written, table.num_rows);
        check_length("versions", versions, table.num_rows);
        check_length("journal", journal, journal_bytes(table.row_bytes()));
        if (reinterpret_cast<uintptr_t>(table.journal) % 8 != 0)
            throw std::invalid_argument("journal has to start at a multiple of 8 bytes");
    }

    template <class Array>
    static void check_length(const char* name, const Array& array, int64_t length) {
        if (array && static_cast<int64_t>(array->size()) != length)
            throw std::invalid_argument(std::string(name) + " has " + std::to_string(array->size()) +
                                        " elements; need " + std::to_string(length));
    }
};

class Pull {
  public:
    Pull(std::shared_ptr<Transfers> transfers, Transfers::Ticket ticket, int64_t count, int64_t width)
        : transfers_(std::move(transfers)), ticket_(std::move(ticket)), count_(count), width_(width) {}

    bool done() const { return transfers_->done(ticket_); }

    nb::object wait() const {
        using Rows = std::shared_ptr<float>;
        Rows* rows;
        {
            nb::gil_scoped_release release;
            rows = new Rows(transfers_->wait(ticket_));
        }
        nb::capsule owner(rows, [](void* memory) noexcept { delete static_cast<Rows*>(memory); });
        const size_t shape[] = {static_cast<size_t>(count_), static_cast<size_t>(width_)};
        return nb::cast(nb::ndarray<nb::pytorch, float, nb::ndim<2>>(rows->get(), 2, shape, owner));
    }

  private:
    std::shared_ptr<Transfers> transfers_;
    Transfers::Ticket ticket_;
    int64_t count_, width_;
};

// Ends the threads with the Python object, whoever still holds a pull.
class PyTransfers {
  public:
    explicit PyTransfers(int num_threads) : transfers_(std::make_shared<Transfers>(num_threads)) {}

    ~PyTransfers() {
        close();
        // A forked child cannot destroy what threads of the parent may have been using: it keeps it for ever.
        if (transfers_->is_foreign()) new std::shared_ptr<Transfers>(transfers_);
    }

    void push(const TableView& view, Vector<const int64_t> ids, Matrix<const float> rows, int32_t step) {
        const int64_t count = ids.size(), width = view.table.width;
        if (static_cast<int64_t>(rows.shape(0)) != count || static_cast<int64_t>(rows.shape(1)) != width)
            throw std::invalid_argument("rows of shape (" + std::to_string(rows.shape(0)) + ", " +
                                        std::to_string(rows.shape(1)) + ") do not fit; need (" +
                                        std::to_string(count) + ", " + std::to_string(width) + ")");
        nb::gil_scoped_release release;
        transfers_->push(view.table, ids.data(), count, rows.data(), step);
    }

    Pull pull(const TableView& view, Vector<const int64_t> ids, int64_t step) {
        nb::gil_scoped_release release;
        auto ticket = transfers_->pull(view.table, ids.data(), ids.size(), step);
        return {transfers_, std::move(ticket), static_cast<int64_t>(ids.size()), view.table.width};
    }

    void flush() {
        nb::gil_scoped_release release;
        transfers_->flush();
    }

    void close() {
        nb::gil_scoped_release release;
        transfers_->close();
    }

    nb::tuple statistics() {
        const Statistics taken = transfers_->take_statistics();
        nb::list histogram;
        for (int64_t rows : taken.ages.histogram) histogram.append(rows);
        return nb::make_tuple(taken.rows_pulled, taken.ages.sum, taken.ages.largest, histogram,
                              taken.bytes_pulled, taken.bytes_pushed);
    }

  private:
    std::shared_ptr<Transfers> transfers_;
};

}  // namespace

void bind_history(nb::module_& m) {
    nb::class_<TableView>(m, "RowTable")
        .def(nb::init<Matrix<uint8_t>, int64_t, int, std::optional<Vector<float>>,
                      std::optional<Vector<int32_t>>, std::optional<Vector<int32_t>>,
                      std::optional<Vector<uint8_t>>>(),
             "rows"_a.noconvert(), "width"_a, "type"_a, "scales"_a.noconvert().none(),
             "written"_a.noconvert().none(), "versions"_a.noconvert().none(), "journal"_a.noconvert().none())
        .def(
            "recover", [](const TableView& view) { return recover(view.table); },
            nb::call_guard<nb::gil_scoped_release>());
    nb::class_<Pull>(m, "Pull").def("wait", &Pull::wait).def("done", &Pull::done);
    nb::class_<PyTransfers>(m, "Transfers")
        .def(nb::init<int>(), "num_threads"_a)
        .def("push", &PyTransfers::push, "table"_a, "ids"_a.noconvert(), "rows"_a.noconvert(), "step"_a)
        .def("pull", &PyTransfers::pull, "table"_a, "ids"_a.noconvert(), "step"_a)
        .def("flush", &PyTransfers::flush)
        .def("close", &PyTransfers::close)
        .def("statistics", &PyTransfers::statistics);
}

}  // namespace gnnscale
