"""Builds the functions, starts MiniStack on a free loopback port, deploys the template and has the streams polled."""

import contextlib
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
#: What `sam build` writes.
BUILD = ROOT / ".aws-sam" / "build"
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


def built(function):
    """The binary of a function, as `sam build` made it."""
    return BUILD / function.capitalize() / "bootstrap"


def architecture():
    """The architecture of this machine, as Lambda names it."""
    return {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine().lower(), "x86_64")


def aws_environment(endpoint):
    """The environment of everything that calls the local AWS. It never leads to the real one."""
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
    # cargo, SAM and this program use one target directory.
    environment.pop("CARGO_TARGET_DIR", None)
    environment.update(
        PATH=f"{TOOLS}:{os.environ['PATH']}",
        AWS_DEFAULT_REGION="us-east-1",
        SAM_CLI_TELEMETRY="0",
        # Optimising takes minutes and makes no difference here. Without it, arithmetic is checked for overflow.
        SAM_BUILD_MODE="debug",
        CARGO_PROFILE_DEV_DEBUG="none",
    )
    return environment


def build():
    """Compiles all binaries at once, then lets `sam build` pick up those of the functions."""
    compile_binaries("the functions, notifyctl and esm-local", BINARIES)
    command = ["sam", "build", "--parameter-overrides", f"Architecture={architecture()}"]
    run("sam build", command, local_build_environment(), STATE)
    for tool in (NOTIFYCTL, ESM_LOCAL):
        install(tool)


def build_notifyctl():
    """Compiles notifyctl, and nothing else."""
    compile_binaries("notifyctl", ["notifyctl"])
    install(NOTIFYCTL)


def compile_binaries(what, binaries):
    screen.say(f"  … compiling {what} (this takes minutes the first time)")
    bins = [argument for binary in binaries for argument in ("--bin", binary)]
    compiled = subprocess.run(["cargo", "lambda", "build", *bins], cwd=ROOT, env=local_build_environment())
    if compiled.returncode != 0:
        screen.fail(f"{what} cannot be compiled; see cargo's errors above")


def install(tool):
    """Copies a tool to where it is run from, even while it is running."""
    tool.parent.mkdir(parents=True, exist_ok=True)
    temporary = tool.with_suffix(".new")
    shutil.copy2(ROOT / "target" / "lambda" / tool.name / "bootstrap", temporary)
    temporary.replace(tool)


def run(what, command, environment, logs, timeout=DEPLOY_TIMEOUT):
    """Runs a tool with its output in a log. If it fails, the end of the log is shown."""
    logs.mkdir(parents=True, exist_ok=True)
    path = logs / f"{what.replace(' ', '-')}.log"
    with path.open("w") as log, screen.step(what, tail=lambda: last_line(path)):
        try:
            code = subprocess.run(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=timeout
            ).returncode
        except subprocess.TimeoutExpired:
            code = f"it did not end within {timeout} s"
        if code != 0:
            screen.say("\n".join(path.read_text().splitlines()[-30:]))
            screen.fail(f"{what} failed ({code}); its whole output is in {path.relative_to(ROOT)}")


def last_line(path):
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return lines[-1].strip() if lines else ""


def overrides(environment, **extra):
    """The parameters of an environment of samconfig.toml, with this machine's architecture and those of a test."""
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
        #: The process of `esm-local`, which polls the streams as Lambda does, and its output.
        self.poller = None
        self.poller_log = logs / "event-sources.log"
        self.endpoint = f"http://127.0.0.1:{port}"
        #: The endpoint that the functions call.
        self.functions_endpoint = functions_endpoint or self.endpoint
        self.environment = aws_environment(self.endpoint)

    @classmethod
    def start(cls, purpose, secret=None, functions_endpoint=None, **parameters):
        """Starts MiniStack, deploys to it and has its streams polled. If that fails, everything is stopped again.

        `secret` becomes the signing secret of the webhook. `functions_endpoint` is what the functions call, if
        something stands between them and MiniStack. The logs are in `.local/<purpose>`, so that the stacks of a demo
        and of a test do not overwrite each other's.
        """
        stack = cls.empty(purpose, functions_endpoint)
        try:
            if secret:
                created = stack.client("secretsmanager").create_secret(Name="webhook", SecretString=secret)
                parameters["WebhookSecretArn"] = created["ARN"]
            parameters = overrides("local", **parameters)
            command = ["sam", "deploy", "--config-env", "local", "--parameter-overrides", *parameters]
            # SAM leaves temporary folders behind. In ours, they are removed.
            run("sam deploy", command, {**stack.environment, "TMPDIR": stack.workdir}, STATE / purpose)
            stack.poll_streams()
        except BaseException:
            stack.stop()
            raise
        return stack

    @classmethod
    def empty(cls, purpose, functions_endpoint=None, command=MINISTACK):
        """Starts MiniStack, with nothing deployed to it."""
        logs = STATE / purpose
        logs.mkdir(parents=True, exist_ok=True)
        port = free_port()
        workdir = tempfile.mkdtemp(prefix="notifications-")
        # MiniStack passes its own AWS_ENDPOINT_URL on to the functions.
        environment = aws_environment(functions_endpoint or f"http://127.0.0.1:{port}")
        environment.update(
            GATEWAY_PORT=str(port),
            BIND_HOST="127.0.0.1",
            # These would listen on every interface.
            IOT_MTLS_ENABLED="0",
            SFTP_ENABLED="0",
            # Each function has the permissions of its role only. The checks of permissions are written down.
            AUTH="true",
            IAM_CHECKS=str(logs / "permissions.jsonl"),
            LAMBDA_EXECUTOR="local",
            TMPDIR=workdir,
            S3_DATA_DIR=f"{workdir}/s3",
            STATE_DIR=f"{workdir}/state",
        )
        with screen.step("start MiniStack"):
            log = (logs / "ministack.log").open("w")
            # In a session of its own, so that Ctrl-C reaches this program only, which then stops MiniStack altogether.
            process = subprocess.Popen(
                command, env=environment, cwd=workdir, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
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
                screen.fail(f"MiniStack exited at its start; its output is in {self.log.relative_to(ROOT)}")
            try:
                urllib.request.urlopen(f"{self.endpoint}/_ministack/health", timeout=2).read()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        screen.fail(f"MiniStack did not answer within {START_TIMEOUT} s; its output is in {self.log.relative_to(ROOT)}")

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
        """Process ids of the running instances of a function, which MiniStack started.

        A function of the stack is named by its binary, any other by its own name.
        """
        name = self.outputs().get(f"{binary.capitalize()}Function", binary)
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
                is_bootstrap = (entry / "exe").readlink().name.startswith("bootstrap")
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

    def client(self, service, *credentials):
        """A boto3 client of the local AWS, with the account's own key unless others are given."""
        return client(self.endpoint, service, *credentials)

    def session(self, function):
        """The environment variables that hold a session of a function's role, as Lambda sets them."""
        return session(self.endpoint, function)

    def kill(self, binary):
        """Ends the processes of a function as a crash does, and returns how many there were."""
        processes = self.function_processes(binary)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return len(processes)


def client(endpoint, service, key="test", secret="test", token=None):
    """A boto3 client of the local AWS at an endpoint, with the account's own key or with a session of a role."""
    import boto3

    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
    )


def session(endpoint, function):
    """The environment variables that hold a session of the role of a function of the local AWS."""
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
    """Ends a process and its children: with SIGTERM, and after STOP_TIMEOUT with SIGKILL."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(leader, sign)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + STOP_TIMEOUT
        while time.monotonic() < deadline and group_is_alive(leader):
            time.sleep(0.05)


def group_is_alive(leader):
    with contextlib.suppress(ChildProcessError):
        os.waitpid(leader, os.WNOHANG)
    try:
        os.killpg(leader, 0)
        return True
    except ProcessLookupError:
        return False
