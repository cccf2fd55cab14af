"""mTLS on both hops: the public port takes only callers of a good certificate, and serves them; see docs/reliability.md."""

import types

import pytest
from certificates import Authority, Folder
from phi_programs import NANO, PATIENCE, Router, Worker
from tls_calls import assert_no_handshake, bad_pairs, client, phictl, tls_flags

REFUSED = ("nobody", "stranger", "expired", "not_yet")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A router and a worker that both ask for a certificate of one authority, and those who have one of it or not."""
    path = tmp_path_factory.mktemp("mutual")
    ours, theirs = Authority("ours"), Authority("theirs")
    files = {name: Folder(path / name).put(ours.issue(name), ours.pem) for name in ("router", "worker", "caller")}
    files["stranger"] = Folder(path / "stranger").put(theirs.issue("caller"), ours.pem)
    worker = Worker(NANO, 1, *tls_flags(files["worker"]), f"--tls_client_ca={files['worker'].ca}")
    ca = files["router"].ca
    router = Router([worker.address], *tls_flags(files["router"]), f"--replica_tls_ca={ca}", f"--tls_client_ca={ca}")
    try:
        worker.wait_ready()
        router.wait_ready()
        yield types.SimpleNamespace(router=router, worker=worker, files=files, ca=ours.pem, pairs=bad_pairs("caller", ours, theirs))
    finally:
        router.stop()
        worker.stop()


@pytest.fixture
def served(site):
    """The site; before and after the test, a caller of a good certificate is served."""
    good = (site.files["caller"].cert.read_bytes(), site.files["caller"].key.read_bytes())

    def answer():
        with client(site.router.address, site.ca, certificate=good) as ours:
            assert ours.health() == "SERVING"
            return ours.generate("def f():", max_new_tokens=4, ignore_eos=True).completions

    before = answer()
    assert before[0].finish.generated_tokens == 4
    yield site
    assert answer() == before


@pytest.mark.parametrize("who", REFUSED)
def test_row82_the_public_port_refuses_callers_without_a_good_certificate(served, who):
    assert_no_handshake(served.router, served.ca, certificate=served.pairs[who])


@pytest.mark.parametrize("who", REFUSED)
def test_row82_the_replica_refuses_clients_without_a_good_certificate(served, who):
    assert_no_handshake(served.worker, served.ca, certificate=served.pairs[who])


def test_row82_phictl_shows_its_certificate(served):
    own, stranger = served.files["caller"], served.files["stranger"]
    where = ("--address", served.router.address, "--tls-ca", own.ca, "--timeout", f"{PATIENCE}s")
    code, out, err = phictl("generate", *where, *phictl_flags(own), "--max-new-tokens", 4, "def f():")
    assert code == 0 and out, err
    for shown in ((), phictl_flags(stranger)):
        code, _, err = phictl("info", *where, *shown)
        assert code != 0 and "asks for one of ours" in err, err
    code, _, err = phictl("info", *where, "--tls-cert", own.cert)
    assert code == 64 and "--tls-key" in err


def phictl_flags(files):
    return "--tls-cert", files.cert, "--tls-key", files.key
