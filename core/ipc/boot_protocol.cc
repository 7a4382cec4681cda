// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/boot_protocol.h"

#include <algorithm>

namespace coffer::ipc {
namespace {

constexpr std::size_t kNameBytesMax = 64;

std::uint32_t wire_ms(std::chrono::milliseconds time) {
  return static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(time.count(), 0, std::numeric_limits<std::uint32_t>::max()));
}

}  // namespace

Bytes encode_boot_request(std::chrono::milliseconds wait) {
  ByteWriter out;
  out.u32(wire_ms(wait));
  return out.take();
}

Result<std::chrono::milliseconds> decode_boot_request(ByteView body) {
  ByteReader in(body);
  const std::chrono::milliseconds wait(in.u32());
  if (const auto whole = in.finish(Reason::kMessageInvalid, "boot request"); !whole) {
    return tl::unexpected(whole.error());
  }
  return wait;
}

Bytes encode_boot_report(const BootReport& report) {
  ByteWriter out;
  const std::size_t count = std::min(report.lines.size(), kBootLinesMax);
  out.boolean(report.finished).u32(report.open).u32(report.total).u32(wire_ms(report.deadline));
  out.u32(static_cast<std::uint32_t>(count));
  for (std::size_t i = 0; i < count; ++i) {
    const BootReport::Line& line = report.lines[i];
    out.text(printable(line.name, kNameBytesMax)).text(printable(line.state, kNameBytesMax));
    out.text(printable(line.text, kBootTextBytesMax));
  }
  return out.take();
}

Result<BootReport> decode_boot_report(ByteView body) {
  ByteReader in(body);
  BootReport report;
  report.finished = in.boolean();
  report.open = in.u32();
  report.total = in.u32();
  report.deadline = std::chrono::milliseconds(in.u32());
  const std::size_t count = in.count(kBootLinesMax, 12);
  for (std::size_t i = 0; i < count; ++i) {
    BootReport::Line line;
    line.name = in.text(kNameBytesMax);
    line.state = in.text(kNameBytesMax);
    line.text = in.text(kBootTextBytesMax);
    report.lines.push_back(std::move(line));
  }
  if (const auto whole = in.finish(Reason::kMessageInvalid, "boot report"); !whole) {
    return tl::unexpected(whole.error());
  }
  return report;
}

}  // namespace coffer::ipc
