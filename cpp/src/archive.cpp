// The zip archive that a model file is. Layout: APPNOTE.TXT of PKWARE, sections 4.3 and 4.5.
#include "archive.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "petmad/error.h"

namespace petmad {
namespace {

constexpr uint32_t local_mark = 0x04034b50;
constexpr uint32_t entry_mark = 0x02014b50;
constexpr uint32_t end_mark = 0x06054b50;
constexpr uint32_t long_end_mark = 0x06064b50;
constexpr uint32_t long_locator_mark = 0x07064b50;
constexpr int64_t local_size = 30;
constexpr int64_t entry_size = 46;
constexpr int64_t end_size = 22;
constexpr int64_t long_end_size = 56;
constexpr int64_t long_locator_size = 20;
constexpr int64_t longest_comment = 65535;
constexpr uint32_t in_extra_field = 0xffffffff;
constexpr uint16_t long_sizes = 1;
constexpr int64_t chunk_size = 1 << 20;

struct Damage {};

struct Entry {
    std::string name;
    bool is_stored;
    uint32_t checksum;
    int64_t size;
    int64_t header;
};

class Archive {
public:
    explicit Archive(const std::string& path)
        : file_(path, std::ios::binary | std::ios::ate), size_(file_.tellg()) {}

    std::string read(int64_t position, int64_t size) {
        if (position < 0 || size < 0 || position > size_ || size > size_ - position) {
            throw Damage{};
        }
        std::string bytes(size, '\0');
        file_.seekg(position);
        if (!file_.read(bytes.data(), size)) {
            throw Damage{};
        }
        return bytes;
    }

    int64_t size() const { return size_; }

private:
    std::ifstream file_;
    int64_t size_;
};

/// The little-endian number at a place.
template <typename Number> Number number(const std::string& bytes, int64_t position) {
    if (position + int64_t(sizeof(Number)) > int64_t(bytes.size())) {
        throw Damage{};
    }
    Number result = 0;
    for (size_t k = 0; k < sizeof(Number); ++k) {
        result |= Number(uint8_t(bytes[position + k])) << (8 * k);
    }
    return result;
}

/// tables[k][byte]: what a byte does to a CRC-32 when k bytes follow it.
std::array<std::array<uint32_t, 256>, 8> make_tables() {
    std::array<std::array<uint32_t, 256>, 8> tables{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; ++bit) {
            value = (value >> 1) ^ ((value & 1) * 0xedb88320);
        }
        tables[0][byte] = value;
    }
    for (int k = 1; k < 8; ++k) {
        for (int byte = 0; byte < 256; ++byte) {
            const uint32_t before = tables[k - 1][byte];
            tables[k][byte] = (before >> 8) ^ tables[0][before & 0xff];
        }
    }
    return tables;
}

/// CRC-32 of zip, eight bytes at a time (Kounavis and Berry, 2005).
uint32_t add_to_checksum(uint32_t checksum, const std::string& bytes) {
    static const auto tables = make_tables();
    uint32_t value = ~checksum;
    size_t at = 0;
    for (; at + 8 <= bytes.size(); at += 8) {
        uint32_t next = 0;
        for (int k = 0; k < 8; ++k) {
            const uint32_t shifted = k < 4 ? value >> (8 * k) : 0;
            next ^= tables[7 - k][(shifted ^ uint8_t(bytes[at + k])) & 0xff];
        }
        value = next;
    }
    for (; at < bytes.size(); ++at) {
        value = (value >> 8) ^ tables[0][(value ^ uint8_t(bytes[at])) & 0xff];
    }
    return ~value;
}

/// Sizes above 4 GiB stand in the entry's extra field.
void read_long_sizes(Entry& entry, const std::string& extra) {
    for (int64_t at = 0; at + 4 <= int64_t(extra.size());
         at += 4 + number<uint16_t>(extra, at + 2)) {
        if (number<uint16_t>(extra, at) != long_sizes) {
            continue;
        }
        int64_t next = at + 4;
        if (entry.size == in_extra_field) {
            entry.size = number<int64_t>(extra, next);
            next += entry.is_stored ? 16 : 8; // the compressed size is the same, and as long
        }
        if (entry.header == in_extra_field) {
            entry.header = number<int64_t>(extra, next);
        }
    }
}

std::vector<Entry> read_entries(Archive& archive) {
    const int64_t tail_size = std::min(archive.size(), end_size + longest_comment);
    const int64_t tail_start = archive.size() - tail_size;
    const std::string tail = archive.read(tail_start, tail_size);
    int64_t end = tail_size - end_size;
    while (end >= 0 && number<uint32_t>(tail, end) != end_mark) {
        --end;
    }
    if (end < 0) {
        throw Damage{};
    }
    int64_t n_entries = number<uint16_t>(tail, end + 10);
    int64_t at = number<uint32_t>(tail, end + 16);
    const int64_t locator = end - long_locator_size;
    if (locator >= 0 && number<uint32_t>(tail, locator) == long_locator_mark) {
        const std::string long_end =
            archive.read(number<int64_t>(tail, locator + 8), long_end_size);
        if (number<uint32_t>(long_end, 0) != long_end_mark) {
            throw Damage{};
        }
        n_entries = number<int64_t>(long_end, 32);
        at = number<int64_t>(long_end, 48);
    }
    std::vector<Entry> entries;
    for (int64_t k = 0; k < n_entries; ++k) {
        const std::string fixed = archive.read(at, entry_size);
        if (number<uint32_t>(fixed, 0) != entry_mark) {
            throw Damage{};
        }
        const int64_t name_size = number<uint16_t>(fixed, 28);
        const int64_t extra_size = number<uint16_t>(fixed, 30);
        const int64_t comment_size = number<uint16_t>(fixed, 32);
        Entry entry;
        entry.name = archive.read(at + entry_size, name_size);
        entry.is_stored = number<uint16_t>(fixed, 10) == 0;
        entry.checksum = number<uint32_t>(fixed, 16);
        entry.size = number<uint32_t>(fixed, 24);
        entry.header = number<uint32_t>(fixed, 42);
        read_long_sizes(entry, archive.read(at + entry_size + name_size, extra_size));
        entries.push_back(entry);
        at += entry_size + name_size + extra_size + comment_size;
    }
    return entries;
}

bool has_its_checksum(Archive& archive, const Entry& entry) {
    const std::string header = archive.read(entry.header, local_size);
    if (number<uint32_t>(header, 0) != local_mark) {
        return false;
    }
    int64_t at =
        entry.header + local_size + number<uint16_t>(header, 26) + number<uint16_t>(header, 28);
    uint32_t checksum = 0;
    for (int64_t left = entry.size; left > 0;) {
        const int64_t size = std::min(left, chunk_size);
        checksum = add_to_checksum(checksum, archive.read(at, size));
        at += size;
        left -= size;
    }
    return checksum == entry.checksum;
}

void check_start(const std::string& path) {
    std::error_code ignored;
    PETMAD_CHECK(
        !std::filesystem::is_directory(path, ignored), "'", path,
        "' is a folder; give the path of a file in it, written by `petmad export`"
    );
    std::ifstream file(path, std::ios::binary);
    char magic[4] = {};
    PETMAD_CHECK(
        file, "no readable model file at '", path,
        "'; give the path of a file written by `petmad export`"
    );
    PETMAD_CHECK(
        file.peek() != std::ifstream::traits_type::eof(), "the model file '", path,
        "' is empty; export or copy it again"
    );
    file.read(magic, sizeof magic);
    PETMAD_CHECK(
        file && std::string(magic, 4) == "PK\x03\x04", "'", path,
        "' is not a TorchScript archive; give a file written by `petmad export`"
    );
}

} // namespace

void check_archive(const std::string& path) {
    check_start(path);
    std::string damaged = "its table of contents";
    bool has_code = false;
    bool has_data = false;
    try {
        Archive archive(path);
        for (const Entry& entry : read_entries(archive)) {
            damaged = "its entry '" + entry.name + "'";
            // Compressed entries, which torch never writes, are checked when they are unpacked.
            if (entry.is_stored && !has_its_checksum(archive, entry)) {
                throw Damage{};
            }
            has_code = has_code || entry.name.find("/code/") != std::string::npos;
            has_data = has_data || entry.name.find("/data.pkl") != std::string::npos;
        }
    } catch (const Damage&) {
        detail::fail(
            "the model file '", path, "' is damaged or cut short: ", damaged,
            " is not as it was written; export or copy it again"
        );
    }
    PETMAD_CHECK(
        has_code || !has_data, "'", path,
        "' is a checkpoint, not a model file; write one with `petmad export ", path, " -o model.pt`"
    );
    PETMAD_CHECK(
        has_code, "'", path,
        "' is not a TorchScript archive; give a file written by `petmad export`"
    );
}

} // namespace petmad
