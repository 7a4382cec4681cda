# SPDX-License-Identifier: Apache-2.0
"""Master keys by `coffer key`, against the token of a running host; `openssl` beside it checks what comes out."""

import subprocess

from scenario import VOLUMES, scenario
from scenarios.boot import assert_open_before_login
from scenarios.rotation import versions

CONTEXT = "--context service=db"
OAEP = ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256"]


def refused(m, command, error):
    """A command that has to end with an error of that name, and changes nothing."""
    result = m.run(command)
    assert result.status != 0 and error in result.output, (command, result)
    return result.output


def key_state(m, key):
    """A key's state, as `coffer key list` shows it."""
    line = next(line for line in m.must("coffer key list").splitlines() if line.startswith(f"{key} "))
    return line.split()[1]


def openssl(*words, data=b""):
    """Runs openssl on this side of the machine; its output."""
    done = subprocess.run(["openssl", *words], input=data, capture_output=True, check=False)
    assert done.returncode == 0, (words, done.stderr.decode())
    return done.stdout


@scenario(host=True, timeout=1200)
def volumes_move_and_the_old_version_goes(s):
    """What an admin types when a key has to change: the volumes move, open from the new version, and the old one goes."""
    host = s.host()
    m = host.machine
    m.must("coffer key rotate default")
    refused(m, "coffer key destroy-version default 1 --yes", "KeyBound")
    s.log(m.must("coffer key rewrap default", timeout=300))
    assert versions(host, VOLUMES) == {2}
    m.must("coffer key destroy-version default 1 --yes")
    shown = m.must("coffer key show default")
    s.log(shown)
    assert "destroyed" in shown and all(name in shown for name in VOLUMES), shown
    refused(m, "coffer key disable default", "KeyBound")
    m.must("sync")
    m.cut_power()
    m.boot()
    assert_open_before_login(s, host)


@scenario(host=True, timeout=900)
def imported_key_takes_its_own_material_alone(s):
    """BYOK: material that openssl wrapped comes in, encrypts, is deleted, and comes back; other material does not."""
    m = s.host().machine
    material, other = openssl("rand", "32"), openssl("rand", "32")

    def bring(secret):
        m.must("coffer key import-parameters brought --public-key /root/b.der --token /root/b.token")
        (s.folder / "b.der").write_bytes(m.pull("/root/b.der"))
        wrapped = openssl("pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", s.folder / "b.der", *OAEP,
                          data=secret)
        m.push(wrapped, "/root/b.wrapped")
        return "coffer key import brought --token /root/b.token < /root/b.wrapped"

    m.must("coffer key create brought --imported")
    refused(m, "echo early | coffer key encrypt brought", "KeyPendingImport")
    m.must(bring(material))
    m.must(f"echo kept | coffer key encrypt brought {CONTEXT} > /root/b.ct")
    assert m.must(f"coffer key decrypt {CONTEXT} < /root/b.ct") == "kept\n"
    refused(m, "coffer key decrypt < /root/b.ct", "BlobInvalid")
    m.must("coffer key delete-material brought")
    refused(m, f"coffer key decrypt {CONTEXT} < /root/b.ct", "KeyPendingImport")
    refused(m, bring(other), "MaterialMismatch")
    m.must(bring(material))
    assert m.must(f"coffer key decrypt {CONTEXT} < /root/b.ct") == "kept\n"


@scenario(host=True, timeout=900)
def openssl_verifies_and_encrypts(s):
    """EC, RSA and SM2 keys: what the host signs openssl verifies, what openssl encrypts the host decrypts."""
    m = s.host().machine
    message = b"signed at three in the morning\n"
    m.push(message, "/root/message")

    def public_key(name):
        pem = s.folder / f"{name}.pem"
        pem.write_text(m.must(f"coffer key public-key {name}"))
        return pem

    def signature(name, scheme):
        m.must(f"coffer key sign {name} {scheme} < /root/message > /root/{name}.sig")
        path = s.folder / f"{name}.sig"
        path.write_bytes(m.pull(f"/root/{name}.sig"))
        return path

    m.must("coffer key create ec --algorithm EC-P256 --usage sign-verify", timeout=120)
    openssl("dgst", "-sha256", "-verify", public_key("ec"), "-signature", signature("ec", "--scheme ecdsa"),
            data=message)
    m.must("coffer key create rsa --algorithm RSA-2048 --usage sign-verify", timeout=300)
    openssl("dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32", "-verify",
            public_key("rsa"), "-signature", signature("rsa", ""), data=message)
    m.must("coffer key create sm2 --algorithm SM2 --usage sign-verify", timeout=120)
    openssl("dgst", "-sm3", "-sigopt", "distid:1234567812345678", "-verify", public_key("sm2"),
            "-signature", signature("sm2", "--scheme sm2"), data=message)

    m.must("coffer key create inbox --algorithm RSA-3072 --usage asymmetric-decrypt", timeout=300)
    m.push(openssl("pkeyutl", "-encrypt", "-pubin", "-inkey", public_key("inbox"), *OAEP, data=b"for the host"),
           "/root/inbox.ct")
    assert m.must("coffer key decrypt inbox < /root/inbox.ct") == "for the host"


@scenario(host=True, timeout=900)
def key_goes_out_of_use_and_comes_back(s):
    """Archived it decrypts, disabled it does nothing, its deletion can be called off; data move to another key unseen."""
    m = s.host().machine
    m.must("coffer key create old && coffer key create new && coffer key tag old room=3")
    m.must("echo kept | coffer key encrypt old > /root/ct")
    m.must("coffer key data-key old --ciphertext /root/dk.ct > /root/dk")
    m.must("coffer key archive old")
    refused(m, "echo more | coffer key encrypt old", "KeyArchived")
    assert m.must("coffer key decrypt < /root/ct") == "kept\n"
    m.must("coffer key reencrypt --to new < /root/ct > /root/moved")
    m.must("coffer key unarchive old && coffer key disable old")
    refused(m, "coffer key decrypt < /root/ct", "KeyDisabled")
    assert m.must("coffer key decrypt < /root/moved") == "kept\n"
    m.must("coffer key delete old --days 7")
    assert key_state(m, "old") == "PendingDelete", key_state(m, "old")
    refused(m, "coffer key enable old", "KeyPendingDeletion")
    m.must("systemctl restart cofferd.service")
    m.wait_until("coffer key undelete old && coffer key enable old")
    m.must("coffer key decrypt < /root/dk.ct | cmp - /root/dk")
    found = m.must("coffer audit query --operation 'key.*' --max 1000")
    for operation in ["key.archive", "key.disable", "key.schedule-deletion", "key.cancel-deletion", "key.rewrap"]:
        assert operation in found, f"{operation} is not recorded:\n{found}"
