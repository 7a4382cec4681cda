// SPDX-License-Identifier: Apache-2.0
#include "bench/keys_ciphers.h"

#include <openssl/evp.h>

#include <ctime>
#include <functional>
#include <stdexcept>

#include "core/base/unique_fd.h"
#include "core/crypto/sm3.h"
#include "core/crypto/sm4.h"

namespace coffer::bench {
namespace {

constexpr std::size_t kRounds = 5;
constexpr double kRoundSeconds = 0.2;
constexpr double kMebibyte = 1024.0 * 1024.0;
constexpr double kGoalRatio = 5;

void require(bool done) {
  if (!done) throw std::runtime_error("a cipher of the benchmark failed");
}

// What this thread has had of its core: what else runs on the machine does not count.
double cpu_seconds() {
  timespec now{};
  require(::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

// MiB/s of calls that take `size_bytes` each, over a round.
double rate_of(std::size_t size_bytes, const std::function<void()>& call) {
  call();  // Pages and caches are there from the second call on.
  std::size_t calls = 0;
  const double start = cpu_seconds();
  double seconds = 0;
  while (seconds < kRoundSeconds) {
    for (int i = 0; i < 4; ++i) call();
    calls += 4;
    seconds = cpu_seconds() - start;
  }
  return static_cast<double>(calls) * static_cast<double>(size_bytes) / kMebibyte / seconds;
}

// OpenSSL's SM4-CTR, ready to go on.
class OpensslCtr {
 public:
  explicit OpensslCtr(ByteView key) : context_(::EVP_CIPHER_CTX_new()) {
    const crypto::Sm4Block counter{};
    require(context_ != nullptr && ::EVP_EncryptInit_ex(context_.get(), ::EVP_sm4_ctr(), nullptr,
                                                        uchars(key), uchars(counter)) == 1);
  }
  void run(ByteView in, std::span<std::byte> out) {
    int written = 0;
    require(::EVP_EncryptUpdate(context_.get(), reinterpret_cast<unsigned char*>(out.data()),
                                &written, uchars(in), static_cast<int>(in.size())) == 1);
  }

 private:
  static const unsigned char* uchars(ByteView bytes) {
    return reinterpret_cast<const unsigned char*>(bytes.data());
  }
  CHandle<EVP_CIPHER_CTX, ::EVP_CIPHER_CTX_free> context_;
};

void openssl_sm3(ByteView in) {
  crypto::Sm3Digest digest{};
  require(::EVP_Digest(in.data(), in.size(), reinterpret_cast<unsigned char*>(digest.data()),
                       nullptr, ::EVP_sm3(), nullptr) == 1);
}

struct Subject {
  std::string name;
  std::function<void()> call;
  std::vector<double> rates;
};

// All subjects once per round, so that whatever disturbs the machine meets all of them.
void measure(std::vector<Subject>& subjects, std::size_t size_bytes) {
  for (std::size_t round = 0; round < kRounds; ++round)
    for (auto& subject : subjects) subject.rates.push_back(rate_of(size_bytes, subject.call));
}

Figure ratio_figure(const Subject& subject, const Subject& base, std::optional<Goal> goal) {
  std::vector<double> ratios;
  ratios.reserve(subject.rates.size());
  for (std::size_t i = 0; i < subject.rates.size(); ++i)
    ratios.push_back(subject.rates[i] / base.rates[i]);
  return {subject.name + " / " + base.name, "times", spread_of(std::move(ratios)), goal};
}

void measure_size(std::size_t size_bytes, const std::string& label, std::vector<Figure>& figures) {
  const Bytes key(crypto::kSm4KeyBytes, std::byte{1});
  const Bytes nonce(crypto::kGcmNonceBytes, std::byte{2});
  const Bytes text(size_bytes, std::byte{3});
  const crypto::Sm4Block counter{};
  Bytes out(size_bytes);
  const auto sealed = crypto::sm4_gcm_seal(key, {nonce, {}}, text);
  require(sealed.has_value());
  OpensslCtr openssl(key);

  enum Index : std::size_t { kOpensslCtr, kCtr, kSeal, kOpen, kOpensslSm3, kSm3 };
  std::vector<Subject> subjects{
      {"OpenSSL SM4-CTR " + label, [&] { openssl.run(text, out); }, {}},
      {"SM4-CTR " + label,
       [&] { require(crypto::sm4_ctr(key, counter, text, out).has_value()); },
       {}},
      {"SM4-GCM seal " + label,
       [&] { require(crypto::sm4_gcm_seal(key, {nonce, {}}, text).has_value()); },
       {}},
      {"SM4-GCM open " + label,
       [&] { require(crypto::sm4_gcm_open(key, {nonce, {}}, *sealed).has_value()); },
       {}},
      {"OpenSSL SM3 " + label, [&] { openssl_sm3(text); }, {}},
      {"SM3 " + label, [&] { crypto::sm3(text); }, {}},
  };
  measure(subjects, size_bytes);
  for (const auto& subject : subjects)
    figures.push_back({subject.name, "MiB/s", spread_of(subject.rates), std::nullopt});
  const Goal goal{GoalKind::kAtLeast, kGoalRatio};
  for (const auto index : {kCtr, kSeal, kOpen})
    figures.push_back(ratio_figure(subjects[index], subjects[kOpensslCtr], goal));
  figures.push_back(ratio_figure(subjects[kSm3], subjects[kOpensslSm3], std::nullopt));
}

}  // namespace

std::vector<Figure> measure_ciphers() {
  std::vector<Figure> figures;
  measure_size(std::size_t{4} << 10U, "4 KiB", figures);
  measure_size(std::size_t{1} << 20U, "1 MiB", figures);
  return figures;
}

}  // namespace coffer::bench
