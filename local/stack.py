"""Builds the functions, starts MiniStack on a free loopback port, deploys the template, and has the streams polled."""

import os
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import tomlkit

from local import screen

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".local"
TOOLS = ROOT / ".venv" / "tools" / "bin"
MINISTACK = [ROOT / ".venv" / "ministack" / "bin" / "python", ROOT / "local" / "start_ministack.py"]
#: What `build` puts on the PATH.
NOTIFYCTL = STATE / "bin" / "notifyctl"
ESM_LOCAL = STATE / "bin" / "esm-local"
NAME = "notifications-local"
BINARIES = ["ingest", "publisher", "downstream", "notifyctl", "esm-local", "approve"]

# Seconds. Generous: they only end what hangs.
START_TIMEOUT = 60
DEPLOY_TIMEOUT = 300
STOP_TIMEOUT = 10


def architecture():
    """The host's own, as Lambda names it."""
    return {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine().lower(), "x86_64")


def aws_environment(endpoint):
    """The environment for everything that speaks to the local AWS. It can never reach the real one."""
    kept = ["PATH", "HOME", "LANG", "LC_ALL", "TERM", "NO_COLOR", "TMPDIR", "CARGO_HOME", "RUSTUP_HOME"]
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment.update(
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_REGION="us-east-1",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_ENDPOINT_URL=endpoint,
        NOTIFY_STACK=NAME,
        SAM_CLI_TELEMETRY="0",
    )
    environment["PATH"] = f"{NOTIFYCTL.parent}:{TOOLS}:{environment['PATH']}"
    return environment


def local_build_environment():
    """The environment of builds for the local stack."""
    environment = dict(os.environ)
    # One target directory for cargo, SAM and us.
    environment.pop("CARGO_TARGET_DIR", None)
    environment.update(
        PATH=f"{TOOLS}:{os.environ['PATH']}",
        AWS_DEFAULT_REGION="us-east-1",
        SAM_CLI_TELEMETRY="0",
        # Optimising costs minutes and changes nothing that can be seen here; without it, arithmetic is checked for overflow.
        SAM_BUILD_MODE="debug",
        CARGO_PROFILE_DEV_DEBUG="none",
    )
    return environment


def build():
    """Compiles the functions and tools once, in one target directory, then lets `sam build` pick the functions up."""
    environment = local_build_environment()
    bins = [argument for binary in BINARIES for argument in ("--bin", binary)]
    screen.say("  … compiling the functions, notifyctl and esm-local (some minutes the first time)")
    compiled = subprocess.run(["cargo", "lambda", "build", *bins], cwd=ROOT, env=environment)
    if compiled.returncode != 0:
        screen.fail("they do not compile; see cargo's errors above")
    run("sam build", ["sam", "build", "--parameter-overrides", f"Architecture={architecture()}"], environment, STATE)
    for tool in (NOTIFYCTL, ESM_LOCAL):
        tool.parent.mkdir(parents=True, exist_ok=True)
        temporary = tool.with_suffix(".new")
        shutil.copy2(ROOT / "target" / "lambda" / tool.name / "bootstrap", temporary)
        temporary.replace(tool)


def run(what, command, environment, logs, timeout=DEPLOY_TIMEOUT):
    """Runs a tool with its output in a log; where it fails, the log's end is shown."""
    logs.mkdir(parents=True, exist_ok=True)
    path = logs / f"{what.replace(' ', '-')}.log"
    with path.open("w") as log, screen.step(what, tail=lambda: last_line(path)):
        try:
            code = subprocess.run(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=timeout
            ).returncode
        except subprocess.TimeoutExpired:
            code = f"no end after {timeout} s"
        if code != 0:
            screen.say("\n".join(path.read_text().splitlines()[-30:]))
            screen.fail(f"{what} failed ({code}); all of its output is in {path.relative_to(ROOT)}")


def last_line(path):
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return lines[-1].strip() if lines else ""


def overrides(environment, **extra):
    """The parameters of an environment of samconfig.toml, the host's architecture, and what a test wants."""
    config = tomlkit.parse((ROOT / "samconfig.toml").read_text())
    values = dict(item.split("=", 1) for item in config[environment]["deploy"]["parameters"]["parameter_overrides"])
    values.update(Architecture=architecture(), **extra)
    return [f"{name}={value}" for name, value in values.items()]


class Stack:
    """A running MiniStack with the service deployed to it."""

    def __init__(self, process, port, workdir, logs, functions_endpoint=None):
        self.process = process
        self.port = port
        self.workdir = workdir
        self.log = logs / "ministack.log"
        #: `esm-local`, which polls the streams as Lambda does; and its output.
        self.poller = None
        self.poller_log = logs / "event-sources.log"
        self.endpoint = f"http://127.0.0.1:{port}"
        #: Where the functions make their calls.
        self.functions_endpoint = functions_endpoint or self.endpoint
        self.environment = aws_environment(self.endpoint)

    @classmethod
    def start(cls, purpose, secret=None, functions_endpoint=None, **parameters):
        """Starts MiniStack, deploys to it and has its streams polled. What was started is stopped again if that fails.

        A secret is put into its Secrets Manager first, as the webhook's. `functions_endpoint` is where the functions
        make their calls, if something stands between them and MiniStack. Logs are in `.local/<purpose>`, so that the
        stacks of a demo and of a test do not write over each other.
        """
        stack = cls.empty(purpose, functions_endpoint)
        try:
            if secret:
                created = stack.client("secretsmanager").create_secret(Name="webhook", SecretString=secret)
                parameters["WebhookSecretArn"] = created["ARN"]
            command = ["sam", "deploy", "--config-env", "local", "--parameter-overrides", *overrides("local", **parameters)]
            # SAM leaves temporary folders behind; these go with ours.
            run("sam deploy", command, {**stack.environment, "TMPDIR": stack.workdir}, STATE / purpose)
            stack.poll_streams()
        except BaseException:
            stack.stop()
            raise
        return stack

    @classmethod
    def empty(cls, purpose, functions_endpoint=None):
        """Starts MiniStack, with nothing deployed to it."""
        logs = STATE / purpose
        logs.mkdir(parents=True, exist_ok=True)
        port = free_port()
        workdir = tempfile.mkdtemp(prefix="notifications-")
        # MiniStack hands its own AWS_ENDPOINT_URL down to the functions.
        environment = aws_environment(functions_endpoint or f"http://127.0.0.1:{port}")
        environment.update(
            GATEWAY_PORT=str(port),
            BIND_HOST="127.0.0.1",
            # They would listen on every interface.
            IOT_MTLS_ENABLED="0",
            SFTP_ENABLED="0",
            # Each function has its role's permissions and no others; what they are used for is written down.
            AUTH="true",
            IAM_CHECKS=str(logs / "permissions.jsonl"),
            LAMBDA_EXECUTOR="local",
            TMPDIR=workdir,
            S3_DATA_DIR=f"{workdir}/s3",
            STATE_DIR=f"{workdir}/state",
        )
        with screen.step("start MiniStack"):
            log = (logs / "ministack.log").open("w")
            # A session of its own: Ctrl-C reaches us, and we stop it with all that it started.
            process = subprocess.Popen(
                MINISTACK, env=environment, cwd=workdir, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )
            stack = cls(process, port, workdir, logs, functions_endpoint)
            try:
                stack.wait_until_healthy()
            except BaseException:
                stack.stop()
                raise
        return stack

    def wait_until_healthy(self):
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                screen.fail(f"MiniStack ended at start; its output is in {self.log.relative_to(ROOT)}")
            try:
                urllib.request.urlopen(f"{self.endpoint}/_ministack/health", timeout=2).read()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        screen.fail(f"no answer of MiniStack within {START_TIMEOUT} s; its output is in {self.log.relative_to(ROOT)}")

    def poll_streams(self):
        """Starts `esm-local`: MiniStack itself skips the records that a function reports as failed."""
        log = self.poller_log.open("w")
        with screen.step("start esm-local"):
            self.poller = subprocess.Popen(
                [ESM_LOCAL], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )
            deadline = time.monotonic() + START_TIMEOUT
            while " polls " not in self.poller_log.read_text():
                if self.poller.poll() is not None or time.monotonic() > deadline:
                    screen.say(last_line(self.poller_log))
                    screen.fail(f"esm-local polls no stream; see {self.poller_log.relative_to(ROOT)}")
                time.sleep(0.05)

    def stop(self):
        for process in filter(None, (self.poller, self.process)):
            stop_group(process.pid)
            process.wait()
        shutil.rmtree(self.workdir, ignore_errors=True)

    def notifyctl(self, *arguments, **options):
        """Runs notifyctl against this stack."""
        return subprocess.run([NOTIFYCTL, *map(str, arguments)], env=self.environment, text=True, **options)

    def function_processes(self, binary):
        """Process ids of a function's running environments, which MiniStack started.

        A function of the stack goes by its binary, any other by its name.
        """
        name = self.outputs().get(f"{binary.capitalize()}Function", binary)
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
                is_bootstrap = os.path.basename(os.readlink(entry / "exe")).startswith("bootstrap")
            except OSError:
                continue
            is_ours = f"AWS_ENDPOINT_URL={self.functions_endpoint}".encode() in variables
            if is_bootstrap and is_ours and f"AWS_LAMBDA_FUNCTION_NAME={name}".encode() in variables:
                found.append(int(entry.name))
        return found

    def outputs(self):
        """The outputs of the deployed stack."""
        if not hasattr(self, "_outputs"):
            found = self.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"][0]["Outputs"]
            self._outputs = {output["OutputKey"]: output["OutputValue"] for output in found}
        return self._outputs

    def client(self, service):
        """A boto3 client of the local AWS."""
        return client(self.endpoint, service)

    def session(self, function):
        """A session of a function's role, as a process gets it from Lambda: variables of its environment."""
        return session(self.endpoint, function)

    def kill(self, binary):
        """Ends a function's processes as a crash does, and returns how many there were."""
        processes = self.function_processes(binary)
        for process in processes:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return len(processes)


def client(endpoint, service):
    """A boto3 client of the local AWS at an endpoint."""
    import boto3

    return boto3.client(
        service, endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )


def session(endpoint, function):
    """A session of the role of a function of the local AWS, as variables of an environment."""
    role = client(endpoint, "lambda").get_function_configuration(FunctionName=function)["Role"]
    credentials = client(endpoint, "sts").assume_role(RoleArn=role, RoleSessionName=function)["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
    }


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stop_group(leader):
    """Ends a process and all that it started: politely, then not."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(leader, sign)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + STOP_TIMEOUT
        while time.monotonic() < deadline and group_is_alive(leader):
            time.sleep(0.05)


def group_is_alive(leader):
    try:
        os.waitpid(leader, os.WNOHANG)
    except ChildProcessError:
        pass
    try:
        os.killpg(leader, 0)
        return True
    except ProcessLookupError:
        return False
