// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <p11-kit/pkcs11.h>

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace coffer::tests {

// What a call of the module is to suffer. Each line of the script is one of
//
//   C_Sign return 0x30      every call of C_Sign fails with that value
//   C_Sign@2 return 0x5     the second one alone, counted since the script was read
//   C_Sign@2+ return 0x5    it and all later ones
//   C_Sign delay 200        each takes 200 ms longer
//   C_Login hang            never comes back
//   C_Sign crash            the process dies of SIGSEGV; `crash-after` when the call was made
//   C_Sign drop             all sessions are closed, then the call is made
//   C_Decrypt flip          one bit of what it gives is wrong
//   C_GenerateRandom zero   it gives zeros
//   SDF_Encrypt size 4096   it says that it gave that many bytes; the SDF library alone
//   hide 0x1087             the token does not have that mechanism
//   removed                 the token is not there; what sessions it had are gone when it is back
//   pin-tries 3             wrong PINs are counted and lock the token
enum class FaultKind { kReturn, kDelay, kHang, kCrash, kCrashAfter, kDrop, kFlip, kZero, kSize };

struct Fault {
  FaultKind kind = FaultKind::kReturn;
  unsigned long value = 0;
};

// FaultScript reads the script named by COFFER_TEST_PKCS11_FAULTS, and again whenever the file was
// replaced. A file that is not there is an empty script. Thread-safe.
class FaultScript {
 public:
  static FaultScript& instance();

  // Counts a call of `function`; what it is to suffer, in the script's order.
  std::vector<Fault> begin_call(std::string_view function);

  bool removed();
  bool was_removed();  // Once after `removed` went away.
  bool hides(CK_MECHANISM_TYPE mechanism);

  // The wrong PINs that are left, counted in SCRIPT.pin so that it outlives the process; -1 when
  // the script does not count them.
  int pin_tries_left();
  int pin_tries_max();
  void set_pin_tries_left(int tries);

  // Appends a line to SCRIPT.log.
  void log(const std::string& line);

 private:
  struct Rule {
    std::string function;
    unsigned first = 1;
    unsigned last = ~0U;
    Fault fault;
  };
  void reload();
  void parse(const std::string& line);

  std::mutex mutex_;  // Guards all.
  std::string path_;
  std::string seen_;  // Identity of the file that was read.
  std::vector<Rule> rules_;
  std::map<std::string, unsigned, std::less<>> calls_;
  std::set<CK_MECHANISM_TYPE> hidden_;
  bool removed_ = false;
  bool was_removed_ = false;
  int pin_tries_ = -1;
};

}  // namespace coffer::tests
