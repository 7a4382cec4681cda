// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace coffer::dbus {

// The names of the API, as in the XML beside this file.
inline constexpr const char* kBusName = "org.coffer.Agent1";
inline constexpr const char* kRootPath = "/org/coffer/Agent1";

inline constexpr const char* kVolumePrefix = "/org/coffer/Agent1/volume";
inline constexpr const char* kJobPrefix = "/org/coffer/Agent1/job";
inline constexpr const char* kKeyPrefix = "/org/coffer/Agent1/key";
inline constexpr const char* kProviderPrefix = "/org/coffer/Agent1/provider";

inline constexpr const char* kManagerInterface = "org.coffer.Agent1.Manager";
inline constexpr const char* kVolumeInterface = "org.coffer.Agent1.Volume";
inline constexpr const char* kJobInterface = "org.coffer.Agent1.Job";
inline constexpr const char* kKeyProviderInterface = "org.coffer.Agent1.KeyProvider";
inline constexpr const char* kAuditInterface = "org.coffer.Agent1.Audit";
inline constexpr const char* kKeyringInterface = "org.coffer.Agent1.Keyring";
inline constexpr const char* kKeyInterface = "org.coffer.Agent1.Key";

// Limits on what a caller may send. A message of the bus may be 32 MiB; ours stop at 1 MiB.
inline constexpr unsigned kArgumentBytesMax = 1024 * 1024;  // All arguments of a call together.
inline constexpr unsigned kStringBytesMax = 4096;           // One string.
inline constexpr unsigned kSpecsMax = 10'000;               // Volumes named in one call.
inline constexpr unsigned kKeysInCallMax = 100;             // Keys changed in one call.
inline constexpr unsigned kOptionsMax = 32;                 // Entries of an a{sv}.
inline constexpr unsigned kReasonBytesMax = 256;            // Option `reason`.
inline constexpr unsigned kPageMax = 1000;                  // Rows of one answer.

}  // namespace coffer::dbus
