// SPDX-License-Identifier: Apache-2.0
#include "hsm/delivery_client.h"

#include <algorithm>
#include <utility>

#include "core/ipc/sockets.h"
#include "hsm/delivery_protocol.h"

namespace coffer::hsm {

Result<void> DeliveryClient::deliver(const keyring::Ticket& ticket, std::uint32_t index,
                                     const keyring::DekLabel& label, const SecretBytes& dek,
                                     Deadline call_deadline) {
  const auto packet = encode_delivery(ticket, index, label, dek);
  if (!packet) return tl::unexpected(packet.error());

  const Deadline deadline(std::min(Deadline::after(options_.timeout).at(), call_deadline.at()));
  // Nothing is sent whose answer is not waited for: the connection would have to be given up.
  if (deadline.passed())
    return fail(Reason::kWorkerLost, "deliver a key: the time was over before it was sent");
  const std::unique_lock turn(mutex_, deadline.at());
  if (!turn) return fail(Reason::kWorkerLost, "deliver a key: the worker is busy with others");
  if (const auto sent = send(*packet, deadline); !sent) return pass(sent.error(), "deliver a key");
  const auto answer = channel_.receive(deadline);
  if (!answer) {
    // Without this connection's answers in step, none on it can be told apart any more.
    channel_ = ipc::Channel();
    return fail(Reason::kWorkerLost, "deliver a key: " + answer.error().message());
  }
  const auto outcome = decode_delivery_reply(answer->bytes);
  if (!outcome && outcome.error().reason() == Reason::kMessageInvalid) channel_ = ipc::Channel();
  return outcome;
}

Result<void> DeliveryClient::send(const SecretBytes& packet, Deadline deadline) {
  // A worker that was started anew has left a dead connection behind: nothing reached it, so the
  // packet may go over a new one.
  if (channel_.valid()) {
    if (const auto sent = channel_.send(packet.reveal(), {}, deadline); sent) return sent;
  }
  auto connected = ipc::connect_to(options_.socket_path, deadline);
  if (!connected) return fail(Reason::kWorkerLost, connected.error().message());
  channel_ = ipc::Channel(std::move(*connected), Reason::kWorkerLost);
  const auto sent = channel_.send(packet.reveal(), {}, deadline);
  if (sent) return sent;
  channel_ = ipc::Channel();
  return fail(Reason::kWorkerLost, sent.error().message());
}

}  // namespace coffer::hsm
