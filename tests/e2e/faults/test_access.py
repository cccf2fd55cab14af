"""Who gets in: TLS and mTLS on both hops, rotation, bearer tokens and their limits; see docs/reliability.md."""

import hashlib
import os
import signal
import socket
import ssl
import threading
import time

import grpc
import pytest
from certificates import Authority, Folder
from phi_client import Refusal, enum_name, message_class
from phi_programs import NANO, PATIENCE, Program, Router, Worker, free_port, wait_until
from tls_calls import assert_no_handshake, client, phictl, refused, tls_flags

TOKENS = {"team-a": "alpha-token", "slow": "slow-token", "few": "few-token", "blocked": "blocked-token"}
LIMITS = {"slow": ":tokens_per_minute=30", "few": ":requests=1", "blocked": ":requests=0"}
EXPIRY = "phi_tls_certificate_expiry_timestamp_seconds"


def token_lines(tokens):
    return "".join(f"{name}:{hashlib.sha256(token.encode()).hexdigest()}{LIMITS.get(name, '')}\n" for name, token in tokens.items())


def replace_text(path, text):
    """At once: a file is never seen half written."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)


class Site:
    """A router with TLS and tokens before one worker with mTLS, all certificates of one authority."""

    def __init__(self, path):
        self.path = path
        self.authority, self.stranger = Authority("ours"), Authority("theirs")
        self.router_files = Folder(path / "router").put(self.authority.issue("router"), self.authority.pem)
        self.worker_files = Folder(path / "worker").put(self.authority.issue("worker"), self.authority.pem)
        self.tokens = path / "tokens"
        self.tokens.write_text(token_lines(TOKENS))
        self.worker = Worker(NANO, 1, *tls_flags(self.worker_files), f"--tls_client_ca={self.worker_files.ca}")
        self.router = Router(
            [self.worker.address], *tls_flags(self.router_files), f"--replica_tls_ca={self.router_files.ca}", f"--token_file={self.tokens}"
        )

    def client(self, name="team-a"):
        return client(self.router.address, self.authority.pem, token=TOKENS.get(name, name))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("site"))
    try:
        made.worker.wait_ready()
        made.router.wait_ready()
        yield made
        for server in (made.router, made.worker):
            assert server.process.poll() is None, server.log()
    finally:
        made.router.stop()
        made.worker.stop()


@pytest.fixture
def served(site):
    """The site; after the test it has to answer as ever."""
    yield site
    with site.client() as ours:
        assert ours.generate("def f():", max_new_tokens=4).completions[0].finish.generated_tokens == 4


# --- 82: TLS


def test_row82_tls_serves_who_shows_the_right_things(served):
    with served.client() as ours:
        answer = ours.generate("def f():", max_new_tokens=8)
        assert answer.completions[0].text
        assert [replica.state for replica in ours.model_info().replicas] == ["ready"]


def test_row82_a_client_refuses_a_server_of_another_authority(served):
    assert_no_handshake(served.router, served.stranger.pem)


def test_row82_plaintext_to_a_tls_port_is_refused(served):
    for server in (served.router, served.worker):
        assert_no_handshake(server, None)


def test_row82_tls_below_1_2_is_refused(served):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    host, port = served.router.address.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(plain)


BAD_REPLICAS = {
    "expired": lambda site: site.authority.issue("worker", days=(-10, -1)),
    "not_yet": lambda site: site.authority.issue("worker", days=(1, 10)),
    "wrong_authority": lambda site: site.stranger.issue("worker"),
    "wrong_san": lambda site: site.authority.issue("worker", sans=("replica.example", "127.0.0.2")),
}


@pytest.mark.parametrize("what", BAD_REPLICAS)
def test_row82_the_router_refuses_a_replica_of_a_bad_certificate(served, started, tmp_path, what):
    """The replica is good first, so that the router's refusal is of the certificate and of nothing else."""
    files = Folder(tmp_path / "bad").put(BAD_REPLICAS[what](served), served.authority.pem)
    worker = started(Worker(NANO, 1, *tls_flags(files)))
    router = started(
        Router([worker.address], *tls_flags(served.router_files), f"--replica_tls_ca={served.router_files.ca}", "--log_level=debug")
    )
    worker.wait_ready()
    wait_until(lambda: "handshake" in router.log().lower(), "the router tries")
    assert not router.ready()
    with client(router.address, served.authority.pem) as ours:
        refusal = ours.refusal("x")
        assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "NO_READY_REPLICA"), refusal
    files.put(served.authority.issue("worker"))
    router.wait_ready()


def test_row82_a_replica_found_by_name_must_show_that_name(served, started, tmp_path):
    files = Folder(tmp_path / "named").put(served.authority.issue("worker", sans=("localhost",)), served.authority.pem)
    worker = started(Worker(NANO, 1, *tls_flags(files)))
    port = worker.address.rpartition(":")[2]
    router = started(Router([f"dns:///localhost:{port}"], *tls_flags(served.router_files), f"--replica_tls_ca={served.router_files.ca}"))
    worker.wait_ready()
    router.wait_ready()


def test_row82_rotation_under_load_fails_no_call(served, figure):
    """Certificates of both hops change, to those of a new authority in the end, while new connections come all the time."""
    new = Authority("new")
    both = served.authority.pem + new.pem
    calls, failures, over = [], [], threading.Event()

    def load():
        while not over.is_set():
            with client(served.router.address, both, token=TOKENS["team-a"]) as ours:
                try:
                    ours.generate("x = ", max_new_tokens=2, timeout=PATIENCE)
                    calls.append(1)
                except grpc.RpcError as error:
                    failures.append(Refusal(error))

    def expiry_is(server, pair):
        from cryptography import x509

        end = x509.load_pem_x509_certificate(pair[0]).not_valid_after
        wanted = (end - end.__class__(1970, 1, 1)).total_seconds()
        wait_until(lambda: server.metric(EXPIRY) == wanted, f"{server.name} tells the new expiry")

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for folder in (served.router_files, served.worker_files):
            folder.put(ca=both)  # first trust, then use: what both ends need
        time.sleep(3)
        for authority, days in ((served.authority, 7), (new, 8), (new, 9)):
            pairs = [authority.issue(name, days=(-1, days)) for name in ("router", "worker")]
            served.router_files.put(pairs[0])
            served.worker_files.put(pairs[1])
            expiry_is(served.router, pairs[0])
            expiry_is(served.worker, pairs[1])
            count = len(calls)
            wait_until(lambda: len(calls) >= count + 5, "calls go on")  # noqa: B023
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[:3]
    figure(f"row 82, three rotations of both hops under load: {len(calls)} calls on connections of their own, {len(failures)} failed")
    with client(served.router.address, served.authority.pem) as before:
        assert refused(before.health).code == grpc.StatusCode.UNAVAILABLE, "the old authority is history"
    for folder, name in ((served.router_files, "router"), (served.worker_files, "worker")):
        folder.put(served.authority.issue(name))
    wait_until(lambda: grpc_ok(served), "back at the old authority")


def grpc_ok(site):
    try:
        with site.client() as ours:
            return bool(ours.generate("x", max_new_tokens=1, timeout=5).completions)
    except grpc.RpcError:
        return False


def test_row82_files_that_do_not_fit_are_told_and_forgotten(served):
    """A certificate without its key: connections that stand go on, a line says it, and the right files heal it."""
    good = (served.router_files.cert.read_bytes(), served.router_files.key.read_bytes())
    with served.client() as standing:
        standing.generate("x", max_new_tokens=1)
        served.router_files.put((served.authority.issue("router")[0], good[1]))
        wait_until(lambda: "TLS files are wrong" in served.router.log(), "the router says so")
        assert standing.generate("x", max_new_tokens=1).completions
        served.router_files.put(good)
        wait_until(lambda: "TLS files are right again" in served.router.log(), "the router says so")
        wait_until(lambda: grpc_ok(served), "new connections are taken again")


# --- starting with what cannot be used


def run_to_end(name, *flags):
    program = Program(name, *flags)
    try:
        return program.wait(), program.log()
    finally:
        program.stop()


BAD_STARTS = {
    "cert_without_key": (["--tls_cert={cert}"], 64, "--tls_cert and --tls_key go together"),
    "client_ca_without_cert": (["--tls_client_ca={ca}"], 64, "--tls_client_ca needs --tls_cert"),
    "no_such_cert": (["--tls_cert=/nowhere.pem", "--tls_key={key}"], 65, "--tls_cert: /nowhere.pem: No such file"),
    "cert_is_a_key": (["--tls_cert={key}", "--tls_key={key}"], 65, "no PEM certificate"),
    "key_is_a_cert": (["--tls_cert={cert}", "--tls_key={cert}"], 65, "no unencrypted PEM private key"),
    "key_of_another": (["--tls_cert={cert}", "--tls_key={other}"], 65, "not the key of --tls_cert"),
    "ca_is_garbage": (["--tls_cert={cert}", "--tls_key={key}", "--tls_client_ca={tokens}"], 65, "--tls_client_ca: "),
}
BAD_ROUTER_STARTS = {
    "tokens_without_tls": (["--token_file={tokens}"], 64, "--token_file needs --tls_cert"),
    "no_such_tokens": (["--tls_cert={cert}", "--tls_key={key}", "--token_file=/nowhere"], 65, "--token_file: /nowhere: No such file"),
    "tokens_are_garbage": (["--tls_cert={cert}", "--tls_key={key}", "--token_file={cert}"], 65, "line 1: "),
    "replica_ca_is_garbage": (["--replica_tls_ca={tokens}"], 65, "--replica_tls_ca: "),
}
STARTS = [("phi-router", name) for name in (BAD_STARTS | BAD_ROUTER_STARTS)] + [("phi-worker", name) for name in BAD_STARTS]


@pytest.mark.parametrize("program, what", STARTS, ids=lambda part: part)
def test_row82_bad_files_end_the_start_in_one_line(site, tmp_path, program, what):
    flags, code, words = (BAD_STARTS | BAD_ROUTER_STARTS)[what]
    other = tmp_path / "other.pem"
    other.write_bytes(site.authority.issue()[1])
    places = {"cert": site.router_files.cert, "key": site.router_files.key, "ca": site.router_files.ca, "other": other, "tokens": site.tokens}
    where = [f"--listen=127.0.0.1:{free_port()}", f"--metrics_listen=127.0.0.1:{free_port()}", f"--model={NANO}"]
    where += [f"--replicas=127.0.0.1:{free_port()}"] if program == "phi-router" else []
    got, log = run_to_end(program, *where, *(flag.format(**places) for flag in flags))
    assert got == code, log
    lines = [line for line in log.splitlines() if words in line]
    assert len(lines) == 1, log


def test_row82_only_plaintext_beyond_loopback_is_warned_of(site, started):
    def starts(*flags):
        port = free_port()
        flags = (f"--listen=0.0.0.0:{port}", f"--metrics_listen=127.0.0.1:{free_port()}", f"--model={NANO}", *flags)
        router = started(Program("phi-router", *flags, f"--replicas=127.0.0.1:{free_port()}"))
        wait_until(lambda: "serving" in router.log(), "listens")
        return router.log()

    assert starts().count("WITHOUT TLS") == 1
    assert "WITHOUT TLS" not in starts(*tls_flags(site.router_files))


# --- 83: tokens


def reflection(channel):
    """What a reflection stream says first, as bytes; it fails where it is refused."""
    call = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    return next(call(iter([b"\x3a\x00"]), timeout=30))  # list_services


def calls_of(ours):
    return {
        "Generate": lambda: ours.generate("x", max_new_tokens=1),
        "GenerateStream": lambda: list(ours.stream("x", max_new_tokens=1)),
        "Tokenize": lambda: ours.tokenize("x"),
        "Detokenize": lambda: ours.detokenize([5]),
        "GetModelInfo": ours.model_info,
        "reflection": lambda: reflection(ours.channel),
    }


def test_row83_a_known_token_may_do_everything(served):
    with served.client() as ours:
        for name, call in calls_of(ours).items():
            assert call(), name
        assert b"phi.v1.TextGeneration" in reflection(ours.channel)


@pytest.mark.parametrize("token", [None, "", "unknown-token", "alpha-toke", "alpha-token ", hashlib.sha256(b"alpha-token").hexdigest()])
def test_row83_without_a_known_token_only_health_answers(served, token):
    with client(served.router.address, served.authority.pem, token=token) as stranger:
        for name, call in calls_of(stranger).items():
            refusal = refused(call)
            assert refusal.code == grpc.StatusCode.UNAUTHENTICATED, (name, refusal)
            assert name == "reflection" or refusal.reason == "UNAUTHENTICATED", (name, refusal)
        assert stranger.health() == "SERVING"
        assert stranger.health("liveness") == "SERVING"
        watch = stranger.channel.unary_stream("/grpc.health.v1.Health/Watch")
        first = next(iter(watch(message_class("grpc.health.v1.HealthCheckRequest")().SerializeToString(), timeout=30)))
        status = message_class("grpc.health.v1.HealthCheckResponse").FromString(first).status
        assert enum_name("grpc.health.v1.HealthCheckResponse.ServingStatus", status) == "SERVING"
    assert served.router.metric('phi_router_requests_total{method="Generate",code="UNAUTHENTICATED",reason="UNAUTHENTICATED"}') >= 1


def test_row83_a_blocked_caller_is_denied(served):
    with served.client("blocked") as ours:
        refusal = refused(ours.model_info)
        assert (refusal.code.name, refusal.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED"), refusal
        assert refused(reflection, ours.channel).code == grpc.StatusCode.PERMISSION_DENIED


def test_row83_requests_under_way_are_limited(served):
    with served.client("few") as ours:
        for _ in range(5):
            ours.generate("x", max_new_tokens=1)  # a place is free as soon as its answer is there
        rank = served.worker.rank_pids()[0]
        os.kill(rank, signal.SIGSTOP)  # so that a call stays under way
        try:
            stream = ours.stream("def f():", max_new_tokens=400, ignore_eos=True)
            wait_until(lambda: served.router.metric("phi_router_inflight_requests") == 1, "it is under way")
            refusal = ours.refusal("x", max_new_tokens=1)
        finally:
            os.kill(rank, signal.SIGCONT)
        assert (refusal.code.name, refusal.reason) == ("RESOURCE_EXHAUSTED", "CALLER_LIMIT"), refusal
        assert int(refusal.metadata["grpc-retry-pushback-ms"]) > 0
        with served.client() as others:
            assert others.generate("x", max_new_tokens=1).completions
        stream.cancel()
        wait_until(lambda: ours.refusal_or_none("x", max_new_tokens=1) is None, "a cancelled call gives its place back")


def test_row83_tokens_per_minute_are_limited(served):
    with served.client("slow") as ours:
        ours.generate("def f():", max_new_tokens=60, ignore_eos=True)  # more than the 30 of a minute
        refusal = ours.refusal("x", max_new_tokens=1)
        assert (refusal.code.name, refusal.reason) == ("RESOURCE_EXHAUSTED", "CALLER_LIMIT"), refusal
        assert 1000 < int(refusal.metadata["grpc-retry-pushback-ms"]) < 200_000
        assert ours.tokenize("x").token_ids, "what generates nothing is free"


def test_row83_tokens_follow_their_file(served):
    added = dict(TOKENS, late="late-token")
    with served.client("late-token") as late:
        assert late.refusal("x").reason == "UNAUTHENTICATED"
        replace_text(served.tokens, token_lines(added))
        wait_until(lambda: late.refusal_or_none("x", max_new_tokens=1) is None, "the new token is known")
        replace_text(served.tokens, "not a token file\n")
        wait_until(lambda: "tokens stay as they were" in served.router.log(), "a broken file is told")
        assert late.generate("x", max_new_tokens=1).completions
        replace_text(served.tokens, token_lines(TOKENS))
        wait_until(lambda: getattr(late.refusal_or_none("x", max_new_tokens=1), "reason", "") == "UNAUTHENTICATED", "withdrawn")
    log = served.router.log()
    assert log.count("tokens stay as they were") == 1, "one line a broken file"
    assert not any(token in log for token in added.values()), "a token in the log"


def test_row83_callers_share_no_cached_prompts(served):
    """What a caller has sent before cannot be found out by another one's first-token time."""
    prompt = list(range(100, 200))

    def cached(name):
        with served.client(name) as caller:
            return caller.generate(prompt, max_new_tokens=1).summary.usage.cached_prompt_tokens

    assert cached("team-a") == 0
    assert cached("team-a") > 0
    assert cached("few") == 0


def test_row83_the_log_names_the_caller(served):
    with served.client() as ours:
        ours.generate("x", max_new_tokens=1, request_id="named")
    wait_until(lambda: any(entry.get("request_id") == "named" for entry in served.router.log_entries()), "its line")
    [entry] = [entry for entry in served.router.log_entries() if entry.get("request_id") == "named"]
    assert entry["caller"] == "team-a"


# --- the commands


def test_row83_phictl_speaks_tls_and_shows_its_token(served, tmp_path):
    token = tmp_path / "token"
    token.write_text(TOKENS["team-a"] + "\n")
    where = ("--address", served.router.address, "--tls-ca", served.router_files.ca)
    code, out, err = phictl("generate", *where, "--token-file", token, "--max-new-tokens", 4, "def f():")
    assert code == 0 and out, err
    assert phictl("health", *where)[0] == 0, "health needs no token"
    code, _, err = phictl("info", *where)
    assert code != 0 and "UNAUTHENTICATED" in err
    code, _, err = phictl("info", "--address", served.router.address, "--token-file", token)
    assert code == 64 and "--tls-ca" in err


def test_row82_phi_serve_speaks_tls_outwards(site, started):
    address = f"127.0.0.1:{free_port()}"
    program = started(Program("phi-serve", f"--model={NANO}", f"--listen={address}", "--metrics_listen=127.0.0.1:0", *tls_flags(site.router_files),
                              f"--token_file={site.tokens}"))  # fmt: skip
    with client(address, site.authority.pem, token=TOKENS["team-a"]) as ours:

        def answers():
            assert program.process.poll() is None, program.log()
            try:
                return ours.health() == "SERVING"
            except grpc.RpcError:
                return False

        wait_until(answers, "phi-serve is ready")
        assert ours.generate("x", max_new_tokens=1).completions
