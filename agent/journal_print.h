// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/host_engine.h"

namespace coffer::agent {

// Message ids of the events that an operator may alert on (journalctl MESSAGE_ID=…); catalogued in
// docs/operations.md.
inline constexpr const char* kMessageVolumeFailed = "5b3e4d1f0c6a4b0f9a1e7c2d8f604311";
inline constexpr const char* kMessageVolumeOpened = "a9c17e5d2b384f6e8d05c4b1f7a36e22";
inline constexpr const char* kMessageKeyUsedInDeletion = "16321c90f9424e608d144afb4ff6b557";
inline constexpr const char* kMessageKeyNearDeletion = "333d2a78dca04534ad0f3a4048a5bc79";
inline constexpr const char* kMessageKeyTakenByForce = "f67f230bbe0c40f085ccb8490d33d12f";
inline constexpr const char* kMessageKeyDue = "f06b98206cf148c4bdcfc7462b177cb4";

// The fields of `entry` as NAME=value.
std::vector<std::string> journal_fields(const LogEntry& entry);

// Writes `entry` to systemd's journal with the fields VOLUME_ID, CMK_ID, ERROR_CODE and MESSAGE_ID;
// outside a unit, as one line to standard error.
void print_to_journal(const LogEntry& entry);

}  // namespace coffer::agent
