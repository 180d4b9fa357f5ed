// Bytes to and from Python, under the GIL, which the engine releases.
#include "python_transport.h"

#include <algorithm>
#include <string>

#include "petmad/error.h"

namespace py = pybind11;

namespace {

py::bytes to_python(const void* data, size_t n_bytes) {
    return {static_cast<const char*>(data), n_bytes};
}

} // namespace

PythonTransport::PythonTransport(py::object host)
    : host_(std::move(host)), rank_(host_.attr("rank").cast<int>()),
      n_ranks_(host_.attr("n_ranks").cast<int>()) {}

std::vector<petmad::Bytes> PythonTransport::all_to_all(const std::vector<petmad::Bytes>& outgoing) {
    const py::gil_scoped_acquire gil;
    py::list messages;
    for (const petmad::Bytes& message : outgoing) {
        messages.append(to_python(message.data(), message.size()));
    }
    std::vector<petmad::Bytes> received;
    for (const py::handle message : host_.attr("all_to_all")(messages)) {
        const auto text = message.cast<std::string>();
        received.emplace_back(text.begin(), text.end());
    }
    PETMAD_CHECK(
        received.size() == outgoing.size(), "`all_to_all` returned ", received.size(),
        " messages, expected ", outgoing.size(), "; return one of each rank"
    );
    return received;
}

void PythonTransport::exchange(
    const std::vector<petmad::Message>& send, const std::vector<petmad::Message>& receive
) {
    const py::gil_scoped_acquire gil;
    py::dict outgoing;
    for (const petmad::Message& message : send) {
        outgoing[py::int_(message.peer)] =
            to_python(message.data, static_cast<size_t>(message.n_bytes));
    }
    py::dict expected;
    for (const petmad::Message& message : receive) {
        expected[py::int_(message.peer)] = message.n_bytes;
    }
    const py::dict incoming = host_.attr("exchange")(outgoing, expected);
    for (const petmad::Message& message : receive) {
        const auto text = incoming[py::int_(message.peer)].cast<std::string>();
        PETMAD_CHECK(
            static_cast<int64_t>(text.size()) == message.n_bytes, "`exchange` returned ",
            text.size(), " bytes of rank ", message.peer, ", expected ", message.n_bytes,
            "; return what that rank sent here"
        );
        std::copy(text.begin(), text.end(), static_cast<char*>(message.data));
    }
}
