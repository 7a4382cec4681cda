// SPDX-License-Identifier: Apache-2.0
#include "bench/bare_token.h"

#include <array>
#include <stdexcept>

namespace coffer::bench {
namespace {

constexpr std::size_t kNonceBytes = 12;
constexpr CK_ULONG kTagBits = 128;

void require(CK_RV value, const char* call) {
  if (value != CKR_OK) {
    throw std::runtime_error(std::string(call) + " failed with " + std::to_string(value));
  }
}

CK_BYTE* bytes_of(ByteView view) {
  // The interface takes what it only reads without const.
  return const_cast<CK_BYTE*>(reinterpret_cast<const CK_BYTE*>(view.data()));
}

// The parameters point to the nonce, which outlives the call.
struct Gcm {
  explicit Gcm(ByteView nonce) {
    parameters.pIv = bytes_of(nonce);
    parameters.ulIvLen = nonce.size();
    parameters.ulIvBits = nonce.size() * 8;
    parameters.ulTagBits = kTagBits;
    mechanism = {CKM_AES_GCM, &parameters, sizeof(parameters)};
  }
  CK_GCM_PARAMS parameters{};
  CK_MECHANISM mechanism{};
};

}  // namespace

BareToken::BareToken(const std::string& module_path, const std::string& label, std::string pin,
                     std::size_t sessions)
    : sessions_(sessions) {
  auto loaded = hsm::Pkcs11Module::load(module_path, nullptr);
  if (!loaded) throw std::runtime_error(loaded.error().str());
  module_ = std::move(*loaded);
  require(module_->initialize(), "C_Initialize");
  hsm::Pkcs11Uri uri;
  uri.token = label;
  const auto token = module_->find_token(uri);
  if (!token) throw std::runtime_error(token.error().str());
  for (auto& session : sessions_) {
    require(module_->call(&CK_FUNCTION_LIST::C_OpenSession, token->slot,
                          CKF_SERIAL_SESSION | CKF_RW_SESSION, nullptr, nullptr, &session.handle),
            "C_OpenSession");
    if (&session == sessions_.data()) {
      require(module_->call(&CK_FUNCTION_LIST::C_Login, session.handle, CKU_USER,
                            reinterpret_cast<CK_UTF8CHAR*>(pin.data()), pin.size()),
              "C_Login");
    }
    make_key(session);
  }
}

BareToken::~BareToken() {
  module_->finalize();
}

void BareToken::make_key(Session& session) {
  CK_MECHANISM mechanism{CKM_AES_KEY_GEN, nullptr, 0};
  CK_ULONG size = 32;
  CK_BBOOL yes = CK_TRUE;
  CK_BBOOL no = CK_FALSE;
  std::array<CK_ATTRIBUTE, 4> attributes{{{CKA_VALUE_LEN, &size, sizeof(size)},
                                          {CKA_TOKEN, &no, sizeof(no)},
                                          {CKA_ENCRYPT, &yes, sizeof(yes)},
                                          {CKA_DECRYPT, &yes, sizeof(yes)}}};
  require(module_->call(&CK_FUNCTION_LIST::C_GenerateKey, session.handle, &mechanism,
                        attributes.data(), attributes.size(), &session.key),
          "C_GenerateKey");
}

Bytes BareToken::encrypt(std::size_t index, ByteView text) {
  Session& session = sessions_.at(index);
  Bytes sealed(kNonceBytes + text.size() + kTagBits / 8);
  ++session.nonce;
  for (std::size_t i = 0; i < sizeof(session.nonce); ++i) {
    sealed[i] = static_cast<std::byte>(session.nonce >> (8 * i));
  }
  Gcm gcm(ByteView(sealed).first(kNonceBytes));
  require(
      module_->call(&CK_FUNCTION_LIST::C_EncryptInit, session.handle, &gcm.mechanism, session.key),
      "C_EncryptInit");
  CK_ULONG size = sealed.size() - kNonceBytes;
  require(module_->call(&CK_FUNCTION_LIST::C_Encrypt, session.handle, bytes_of(text), text.size(),
                        bytes_of(ByteView(sealed).subspan(kNonceBytes)), &size),
          "C_Encrypt");
  return sealed;
}

Bytes BareToken::decrypt(std::size_t index, ByteView sealed) {
  const Session& session = sessions_.at(index);
  Gcm gcm(sealed.first(kNonceBytes));
  require(
      module_->call(&CK_FUNCTION_LIST::C_DecryptInit, session.handle, &gcm.mechanism, session.key),
      "C_DecryptInit");
  const ByteView rest = sealed.subspan(kNonceBytes);
  Bytes text(rest.size());
  CK_ULONG size = text.size();
  require(module_->call(&CK_FUNCTION_LIST::C_Decrypt, session.handle, bytes_of(rest), rest.size(),
                        bytes_of(text), &size),
          "C_Decrypt");
  text.resize(size);
  return text;
}

}  // namespace coffer::bench
