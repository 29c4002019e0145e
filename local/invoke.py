"""Invokes one function with a sample event, against the local stack that `make up` started.

`sam local invoke` runs it in a container, `cargo lambda` without Docker. Both run the binary that `sam build`
made, with the environment variables and the role of the deployed function.
"""

import contextlib
import ipaddress
import json
import os
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import docker
import yaml

from local import screen
from local.stack import BUILD, NAME, ROOT, TOOLS, architecture, aws_environment, built, client, free_port, session

TEMPLATE = BUILD / "template.yaml"
CARGO_LAMBDA = TOOLS / "cargo-lambda"

#: Seconds. Generous: it only ends what hangs.
START_TIMEOUT = 30

#: SAM's emulator sometimes starts a function before it listens. The function then exits, and there is no answer.
SAM_ATTEMPTS = 3

#: The file descriptor for logs. Only the answer goes to stdout.
STDERR = 2


def invoke(endpoint, function, event, tool=None):
    """Invokes the function and returns its answer in JSON. Its log goes to stderr.

    `tool` is `sam` or `cargo-lambda`. The default is sam if Docker is running, and cargo-lambda otherwise.
    """
    if not function or not event:
        example = "make invoke FUNCTION=Ingest EVENT=events/ingest-mixed.json"
        screen.fail(f"FUNCTION or EVENT is not set; for example: {example}")
    if tool not in (None, "", "sam", "cargo-lambda"):
        screen.fail(f"WITH must be sam or cargo-lambda, not {tool}")
    functions = built_functions()
    if function not in functions:
        screen.fail(f"the template has no function {function}; FUNCTION must be one of {', '.join(functions)}")
    event = Path(event).resolve()
    if not event.is_file():
        screen.fail(f"there is no file {event}; EVENT must be the path of an event, such as events/ingest-mixed.json")
    engine = docker_engine()
    if tool == "sam" and not engine:
        screen.fail("sam local invoke needs Docker, but no Docker engine answers; WITH=cargo-lambda needs none")
    name = deployed_name(endpoint, function)
    variables, role = variables_of(endpoint, name), session(endpoint, name)
    if tool == "cargo-lambda" or not engine:
        return with_cargo_lambda(endpoint, function, event, variables, role)
    return with_sam(endpoint, function, event, variables, role, engine)


def built_functions():
    """The names of the functions in the template that `sam build` wrote."""
    if not TEMPLATE.exists():
        screen.fail("the functions are not built; `make build` builds them")
    resources = yaml.safe_load(TEMPLATE.read_text())["Resources"]
    return [name for name, resource in resources.items() if resource["Type"] == "AWS::Serverless::Function"]


def docker_engine():
    """Docker's engine, if it answers where SAM looks for it; None otherwise."""
    try:
        engine = docker.from_env()
        engine.ping()
        return engine
    except docker.errors.DockerException:
        return None


def deployed_name(endpoint, function):
    """The name of the function in the deployed stack."""
    resource = client(endpoint, "cloudformation").describe_stack_resource(StackName=NAME, LogicalResourceId=function)
    return resource["StackResourceDetail"]["PhysicalResourceId"]


def variables_of(endpoint, name):
    """The environment variables of a function of the local AWS."""
    return client(endpoint, "lambda").get_function_configuration(FunctionName=name)["Environment"]["Variables"]


# ---- with Docker -----------------------------------------------------------------------------------------------------


def with_sam(endpoint, function, event, variables, role, engine):
    """Invokes the function in a container, by `sam local invoke`.

    SAM passes only variables that the template declares, so it gets a copy of the template with AWS_ENDPOINT_URL. A
    container cannot reach the host's loopback, so the endpoint is also made available on Docker's bridge.
    https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-cli-using-invoke.html
    """
    with bridge_to(endpoint, engine) as bridged, template_with(function, variables, bridged) as template:
        docker_settings = {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
        command = [
            TOOLS / "sam", "local", "invoke", function, "--template", template, "--event", event,
            "--parameter-overrides", f"Architecture={architecture()}",
            # The image is pulled if it is missing. Otherwise, the registry is not asked for a newer one.
            "--skip-pull-image",
        ]
        # SAM passes on its own credentials, and prefers its own AWS_ENDPOINT_URL to the template's, so both are set.
        environment = {**aws_environment(bridged), **role, **docker_settings}
        for _ in range(SAM_ATTEMPTS):
            with subprocess.Popen(
                command, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
            ) as sam:
                answer, _ = sam.communicate()
            if answer.strip() or sam.returncode != 0:
                break
    if not answer.strip():
        screen.fail("sam local invoke failed; see its message above. WITH=cargo-lambda needs no Docker and no image")
    if "errorType" in json.loads(answer):
        screen.say(answer)
        screen.fail(f"{function} answered with an error; see above")
    return answer.strip()


@contextlib.contextmanager
def template_with(function, variables, endpoint):
    """A copy of the built template, next to it, in which the function has these variables and this endpoint."""
    template = yaml.safe_load(TEMPLATE.read_text())
    environment = {"Variables": {**variables, "AWS_ENDPOINT_URL": endpoint}}
    template["Resources"][function]["Properties"]["Environment"] = environment
    with tempfile.NamedTemporaryFile("w", dir=BUILD, prefix="invoke-", suffix=".json") as copy:
        json.dump(template, copy)
        copy.flush()
        yield copy.name


@contextlib.contextmanager
def bridge_to(endpoint, engine):
    """Makes an endpoint on loopback available to containers, and to nobody else. Yields the URL for them."""
    bridge = engine.networks.get("bridge").attrs["IPAM"]["Config"][0]
    network = ipaddress.ip_network(bridge["Subnet"])
    # The host has the first address of the network, unless Docker is configured otherwise.
    gateway = bridge.get("Gateway") or str(next(network.hosts()))
    try:
        forwarder = Forwarder(gateway, int(endpoint.rpartition(":")[2]), network)
    except OSError as error:
        screen.fail(f"cannot listen on Docker's bridge, {gateway}: {error.strerror}; WITH=cargo-lambda needs no Docker")
    with forwarder:
        threading.Thread(target=forwarder.serve_forever, daemon=True).start()
        try:
            yield f"http://{gateway}:{forwarder.server_address[1]}"
        finally:
            forwarder.shutdown()


class Forwarder(socketserver.ThreadingTCPServer):
    """Forwards connections from a network to a port on loopback."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address, port, network):
        super().__init__((address, 0), Connection)
        self.port = port
        self.network = network

    def verify_request(self, request, client_address):
        return ipaddress.ip_address(client_address[0]) in self.network


class Connection(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.create_connection(("127.0.0.1", self.server.port)) as upstream:
            threading.Thread(target=copy, args=(upstream, self.request), daemon=True).start()
            copy(self.request, upstream)


def copy(source, target):
    """Copies bytes until the source ends."""
    with contextlib.suppress(OSError):  # one end has closed the connection
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


# ---- without Docker --------------------------------------------------------------------------------------------------


def with_cargo_lambda(endpoint, function, event, variables, role):
    """Invokes the function in a process on this machine. cargo-lambda provides Lambda's runtime API.

    https://www.cargo-lambda.info/commands/watch.html
    """
    port = free_port()
    address = ["--invoke-address", "127.0.0.1", "--invoke-port", str(port)]
    environment = aws_environment(endpoint)
    watch = [CARGO_LAMBDA, "lambda", "watch", "--only-lambda-apis", *address]
    with started(watch, environment, subprocess.DEVNULL) as api:
        wait_for_port(port, api)
        environment.update(
            {**variables, **role},
            AWS_LAMBDA_RUNTIME_API=f"http://127.0.0.1:{port}/.rt",
            AWS_LAMBDA_FUNCTION_NAME=function,
            AWS_LAMBDA_FUNCTION_VERSION="$LATEST",
            AWS_LAMBDA_FUNCTION_MEMORY_SIZE="512",
            AWS_LAMBDA_LOG_FORMAT="JSON",
        )
        with started([built(function)], environment, STDERR) as process:
            command = [CARGO_LAMBDA, "lambda", "invoke", *address, "--data-file", event]
            with started(command, environment, subprocess.PIPE) as invocation:
                return answer_of(invocation, function, process)


@contextlib.contextmanager
def started(command, environment, output):
    """A process that is killed at the end of a `with`. It shares this program's stderr."""
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_port(port, process):
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.02)
    screen.fail(f"cargo lambda watch does not listen on 127.0.0.1:{port}; see its message above")


def answer_of(invocation, function, process):
    """The output of the invocation, which would wait forever if the function's process had exited."""
    answer = None
    while answer is None:
        if process.poll() is not None:
            screen.fail(f"{function} exited before it answered; see its message above")
        with contextlib.suppress(subprocess.TimeoutExpired):
            answer, _ = invocation.communicate(timeout=0.1)
    if invocation.returncode != 0:
        screen.fail(f"{function} answered with an error; see above")
    return answer.strip()
