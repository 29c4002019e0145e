"""`notifyctl ui`: the page, by real clicks in a browser, and what its server refuses."""

import contextlib
import http.client
import json
import os
import socket
import stat
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from browser import Browser, installed
from conftest import PATIENCE
from local.demo import leading_to
from local.stack import NOTIFYCTL

needs_browser = pytest.mark.skipif(
    not installed(), reason="there is no browser; install Chromium (Debian: apt-get install chromium)"
)


@contextlib.contextmanager
def page(environment, folder):
    """Serves the page until the end of a `with`. Gives its address. Plans are written to the folder."""
    process = subprocess.Popen(
        [NOTIFYCTL, "ui"],
        env=environment,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def address(stack, tmp_path):
    with page(stack.stack.environment, tmp_path) as address:
        yield address


@pytest.fixture
def browser(tmp_path):
    with Browser(tmp_path / "profile") as browser:
        browser.resize(1280, 900)
        yield browser


def failed(stack, notification_id, body, event_type, status="FAILED", code="rejected", reason="<b>for a test</b>"):
    """Writes an item that has been FAILED, or IN_DOUBT, for 20 minutes."""
    since = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 20 * 60))
    stack.put_unresolved(notification_id, body, event_type, since, status, code, reason)


def request(address, method, path, headers=None, body=None, token=True):
    """The status and the JSON answer of a request, with the token unless it should have none."""
    url = urlsplit(address)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    headers = {**({"X-Notifyctl-Token": url.fragment} if token else {}), **(headers or {})}
    connection.request(method, path, body and json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if answer.headers["Content-Type"] == "application/json" else text


def test_a_decision_that_stops_by_itself_says_so(stack, prefix, event, address):
    for number in range(150):
        notification_id = f"{prefix}-{number}"
        failed(stack, notification_id, event(notification_id).replace("19.99", "none"), prefix)
    wish = {"group": f"FAILED/rejected/{prefix}", "what": "redrive", "rate": 50, "stop_at": 50}
    _, planned = request(address, "POST", "/api/decision", body=wish)
    assert request(address, "POST", "/api/decision/start", body={"number": planned["number"]})[0] == 200

    def ended():
        _, decision = request(address, "GET", "/api/decision")
        return decision if decision["stage"] == "ended" else None

    progress = stack.wait_for("it has ended", ended)["progress"]
    assert progress["stopped"]["fail_again"]["failed"] >= 20 and progress["left"] > 0


@needs_browser
def test_a_group_that_failed_is_seen_redriven_and_done_by_clicks(stack, prefix, event, address, browser, tmp_path):
    ids = [f"{prefix}-{number}" for number in range(7)]
    for notification_id in ids:
        failed(stack, notification_id, event(notification_id), prefix)
    group = f"FAILED/rejected/{prefix}"
    row = f'tr[data-group="{group}"]'

    browser.open(address)
    browser.wait_for("the group is shown", lambda: browser.text(row))
    assert browser.text(f"{row} td.number") == "7"
    assert "Needs attention" in browser.text("#verdict")
    assert urlsplit(address).fragment not in browser.run("location.href"), "the token does not stay in the address bar"

    browser.click(f'{row} button[data-key^="redrive"]')
    browser.wait_for("the dialog counts", lambda: "Run 7 notifications again?" in browser.text("#confirm"))
    assert all(stack.status(notification_id) == "FAILED" for notification_id in ids), "nothing is changed yet"
    assert browser.run("document.querySelector('#confirm').matches(':modal')")
    browser.click("#confirm-yes")
    browser.wait_for("it has finished", lambda: browser.text("#decision-stage") == "Finished")
    assert browser.text("#decision-text") == "7 of 7 changed, 7 DONE, 0 failed again, 0 pending."
    assert [stack.status(notification_id) for notification_id in ids] == ["DONE"] * 7
    browser.wait_for("the group is gone", lambda: not browser.text(row))
    (plan,) = tmp_path.glob("*.plan.jsonl")
    assert plan.read_text().count('"decided"') == 7, "the plan's file is that of the command"
    assert browser.complaints == []


@needs_browser
def test_trouble_is_seen_and_a_group_that_fails_again_is_shown_so(stack, address, browser):
    browser.open(address)
    number = r"""Number(document.querySelector('dd[data-count="DONE"]').textContent.replace(/\D/g, ''))"""

    def is_done_counted():
        return browser.text('dd[data-count="DONE"]')[:1].isdigit()

    browser.wait_for("DONE is counted", is_done_counted)
    before = browser.run(number)
    browser.click('[data-trouble="duplicates"]')
    browser.wait_for("they are sent", lambda: browser.text("#trouble-text").startswith("200 messages sent."))
    browser.wait_for("they are DONE", lambda: browser.run(number) >= before + 100)

    browser.click('[data-trouble="rejected"]')
    row = 'tr[data-group="FAILED/rejected/com.example.refund.invalid"]'
    browser.wait_for("they failed", lambda: browser.text(f"{row} td.number") == "10")
    browser.click(f'{row} button[data-key^="redrive"]')
    browser.click("#confirm-yes")
    browser.wait_for("it has finished", lambda: browser.text("#decision-stage") == "Finished")
    assert browser.text("#decision-text") == "10 of 10 changed, 0 DONE, 10 failed again, 0 pending."
    assert browser.complaints == []


def number(browser, selector):
    """A number on the page."""
    digits = "".join(filter(str.isdigit, browser.text(selector)))
    return int(digits) if digits else None


def all_are_done(browser, sent):
    return [number(browser, f'[data-kept="{name}"]') for name in ("sent", "done", "lost")] == [sent, sent, 0]


@needs_browser
def test_functions_die_and_replies_are_lost_and_yet_all_become_done(stack, address, browser):
    browser.open(address)
    kinds = ("killed", "unanswered", "throttled", "failed")
    counters = [f'[data-happened="{kind}"]' for kind in kinds]
    for fault in ("kill_ingest", "kill_publisher", "kill_downstream", "lose_replies"):
        browser.click(f'[data-fault="{fault}"]')
        browser.wait_for(f"{fault} is confirmed", lambda: browser.text("#trouble-text"))
    before = [number(browser, counter) for counter in counters]
    browser.click('[data-trouble="duplicates"]')
    browser.wait_for("replies are lost", lambda: number(browser, counters[1]) >= before[1] + 5, PATIENCE)
    browser.wait_for("each function has died", lambda: number(browser, counters[0]) >= before[0] + 3, PATIENCE)

    browser.click('[data-fault="throttle"]')
    browser.click('[data-fault="fail_calls"]')
    browser.click('[data-trouble="duplicates"]')
    browser.wait_for("calls are throttled", lambda: number(browser, counters[2]) > before[2], PATIENCE)
    browser.wait_for("calls fail", lambda: number(browser, counters[3]) > before[3], PATIENCE)
    browser.wait_for("all are DONE", lambda: all_are_done(browser, 200), 2 * PATIENCE)
    assert browser.text("#kept") == "Nothing is lost: all that were sent are DONE or need attention."
    assert browser.complaints == []


@needs_browser
def test_a_stream_is_stopped_and_started_again(stack, address, browser):
    browser.open(address)
    browser.wait_for("there are faults", lambda: browser.text('[data-stream="data_stream"]') == "Stop Kinesis")
    browser.click('[data-stream="data_stream"]')
    browser.wait_for("it is stopped", lambda: browser.text('[data-stream="data_stream"]') == "Start Kinesis")
    assert browser.text('[data-left="data_stream"]').startswith("stopped, ")
    browser.click('[data-trouble="duplicates"]')
    browser.wait_for("they are pending", lambda: number(browser, '[data-kept="pending"]') == 100)
    assert number(browser, '[data-happened="data_stream"]') > 0 and number(browser, '[data-kept="done"]') == 0
    assert browser.text("#kept") == "Nothing is lost so far."
    browser.click('[data-stream="data_stream"]')
    browser.wait_for("it runs again", lambda: browser.text('[data-stream="data_stream"]') == "Stop Kinesis")
    browser.wait_for("all are DONE", lambda: all_are_done(browser, 100), PATIENCE)
    assert browser.complaints == []


@needs_browser
def test_the_flow_shows_latencies_ages_and_counts_per_minute(stack, address, browser):
    browser.open(address)
    browser.click('[data-trouble="duplicates"]')
    browser.wait_for("all are DONE", lambda: all_are_done(browser, 100), PATIENCE)
    latencies = ("received_to_published_p50", "received_to_published_p99", "published_to_done_p50")
    times = (*latencies, "queue_age", "table_stream_age", "data_stream_age")
    counts = ("inserted", "published", "done")

    def figures(names):
        return [browser.text(f'[data-figure="{name}"]') for name in names]

    browser.wait_for("there are latencies and ages", lambda: all(text[-2:] in ("ms", " s") for text in figures(times)))
    browser.wait_for("there are counts", lambda: all(text[:1].isdigit() for text in figures(counts)))
    assert "of the minute from" in browser.text("#measured")


@needs_browser
def test_the_ids_of_a_group_are_listed_a_page_at_a_time_and_open_their_notifications(
    stack, prefix, event, address, browser
):
    for count in range(25):
        notification_id = f"{prefix}-{count:02}"
        failed(stack, notification_id, event(notification_id), prefix)
    browser.open(address)
    browser.click(f'tr[data-group="FAILED/rejected/{prefix}"] td.number button')
    browser.wait_for("a page of ids", lambda: browser.text("#ids-list").count(prefix) == 20)
    assert browser.run("document.activeElement.id") == "ids"
    browser.click("#ids-more")
    browser.wait_for("the rest", lambda: browser.text("#ids-list").count(prefix) == 5)
    assert not browser.text("#ids-more"), "there is no third page"
    last = browser.text("#ids-list li:last-child button")
    browser.click("#ids-list li:last-child button")
    browser.wait_for("its timeline", lambda: last in browser.text("#notification h3"))
    browser.click("#ids-close")
    assert not browser.text("#ids")


@needs_browser
def test_a_file_that_only_its_user_can_read_leads_to_the_page(address, browser):
    file = leading_to(address)
    try:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        browser.open(file.as_uri())
        browser.wait_for("the page has data", lambda: browser.text("#stack"))
        assert browser.complaints == []
    finally:
        file.unlink()


@needs_browser
def test_one_notification_is_found_by_keyboard_and_shows_its_event_only_if_asked(
    stack, prefix, event, address, browser
):
    failed(stack, prefix, event(prefix), prefix)
    browser.open(address)
    browser.wait_for("the counts are read", lambda: browser.text("#reading"))
    browser.press("/", "/")
    assert browser.run("document.activeElement.id") == "id"
    browser.type(prefix)
    browser.press("Enter", "\r")
    browser.wait_for("its timeline", lambda: "FAILED" in browser.text(".timeline"))
    assert "<b>for a test</b>" in browser.text("#one"), "a reason is text, whatever it has in it"
    assert browser.run("document.querySelectorAll('#one b').length") == 0
    assert "orderId" not in browser.text("#one")
    browser.click("#notification button")
    browser.wait_for("its event", lambda: "orderId" in browser.text("#one pre"))
    browser.press("/", "/")
    browser.press("Escape")
    assert browser.run("document.activeElement.id") != "id"


@needs_browser
def test_the_page_is_for_keyboards_screen_readers_and_narrow_screens(stack, prefix, event, address, browser):
    failed(stack, prefix, event(prefix), prefix, "IN_DOUBT", "claim_expired")
    browser.open(address)
    browser.wait_for("the group is shown", lambda: browser.text(f'tr[data-group="IN_DOUBT/claim_expired/{prefix}"]'))
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    assert {role for role, _ in roles} >= {"banner", "main", "search", "status", "table", "heading"}
    assert all(name for role, name in roles if role in ("button", "region", "searchbox", "table")), "each has a name"
    assert any(role == "button" and name.startswith("It happened: 1 notification") for role, name in roles)

    browser.run("document.activeElement.blur()")
    browser.press("Tab")
    assert browser.run("document.activeElement.className") == "skip"
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is visible"

    for width in (320, 640, 1280):
        browser.resize(width, 800)
        assert browser.run("document.documentElement.scrollWidth") <= width, f"no scrolling sideways at {width}"
    colours = []
    for scheme in ("light", "dark"):
        browser.resize(1280, 800, scheme)
        colours.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]


def test_data_needs_the_token_and_other_hosts_and_origins_are_refused(address):
    assert request(address, "GET", "/api/groups")[0] == 200
    assert request(address, "GET", "/api/groups", token=False)[0] == 401
    assert request(address, "GET", "/api/groups", {"Host": "attacker.example"})[0] == 421
    assert request(address, "GET", "/api/groups", {"Origin": "https://attacker.example"})[0] == 403
    assert request(address, "GET", "/", {"Sec-Fetch-Site": "cross-site"})[0] == 403
    status, html = request(address, "GET", "/", token=False)
    assert status == 200 and urlsplit(address).fragment.encode() not in html
    assert request(address, "DELETE", "/api/groups")[0] == 405
    assert request(address, "GET", "/api/nothing")[0] == 404
    assert request(address, "GET", "/api/ids?group=nothing")[0] == 400


def test_only_so_many_connections_are_served_at_once_and_silent_ones_are_closed(address):
    url = urlsplit(address)
    limit = 32
    with contextlib.ExitStack() as others:
        silent = [others.enter_context(socket.create_connection((url.hostname, url.port))) for _ in range(limit)]
        late = others.enter_context(socket.create_connection((url.hostname, url.port)))
        late.sendall(f"GET / HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
        late.settimeout(1)
        with pytest.raises(TimeoutError):
            late.recv(1)
        silent[0].close()
        late.settimeout(30)
        assert late.recv(12) == b"HTTP/1.1 200"
        for connection in silent[1:]:
            connection.settimeout(60)
            while connection.recv(1024):
                pass  # an answer that the head took too long


def test_only_the_plan_that_was_counted_last_is_carried_out(stack, prefix, event, address):
    failed(stack, prefix, event(prefix), prefix)
    wish = {"group": f"FAILED/rejected/{prefix}", "what": "redrive", "rate": 50, "stop_at": 50}
    _, first = request(address, "POST", "/api/decision", body=wish)
    _, last = request(address, "POST", "/api/decision", body=wish)
    assert (first["count"], last["count"], last["stage"]) == (1, 1, "planned")
    assert request(address, "POST", "/api/decision/start", body={"number": first["number"]})[0] == 409
    assert stack.status(prefix) == "FAILED"
    for wrong in ({**wish, "rate": 0}, {**wish, "group": "DONE"}, {**wish, "what": "delete"}):
        assert request(address, "POST", "/api/decision", body=wrong)[0] == 400


def test_without_permission_the_page_of_a_stack_on_aws_only_reads(stack, prefix, event, tmp_path):
    failed(stack, prefix, event(prefix), prefix)
    # An endpoint for each service instead of AWS_ENDPOINT_URL: to notifyctl, that may be anywhere.
    environment = dict(stack.stack.environment)
    endpoint = environment.pop("AWS_ENDPOINT_URL")
    services = ("CLOUDFORMATION", "DYNAMODB", "DYNAMODB_STREAMS", "KINESIS", "SQS")
    environment.update({f"AWS_ENDPOINT_URL_{service}": endpoint for service in services})
    with page(environment, tmp_path) as address:
        status, flow = request(address, "GET", "/api/flow")
        assert (status, flow["allows_changes"], flow["is_local"]) == (200, False, False)
        assert "DONE" not in flow["summary"]["notifications"], "the whole table is read only if that is asked for"
        wish = {"group": f"FAILED/rejected/{prefix}", "what": "redrive", "rate": 50, "stop_at": 50}
        status, answer = request(address, "POST", "/api/decision", body=wish)
        assert status == 403 and "--allow-changes" in answer["error"]
    assert not list(tmp_path.iterdir()), "no plan was written"


@needs_browser
@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="`make screenshots` takes them")
def test_the_screenshots_of_the_docs_are_taken(stack, event, address, browser):
    folder = Path(os.environ["SCREENSHOTS"])
    refund, order = "com.example.refund.requested", "com.example.order.cancelled"
    for event_type, status, code, count in (
        (refund, "FAILED", "rejected", 12),
        (order, "FAILED", "malformed", 3),
        (refund, "IN_DOUBT", "outcome_unknown", 2),
    ):
        for number in range(1, count + 1):
            notification_id = f"{code.replace('_', '-')}-{number:02}"
            failed(stack, notification_id, event(notification_id), event_type, status, code, "no such order")
    browser.open(address)
    for fault in ("kill_ingest", "kill_publisher", "kill_downstream", "lose_replies", "throttle"):
        browser.click(f'[data-fault="{fault}"]')
    browser.click('[data-trouble="good"]')
    browser.wait_for("all are DONE", lambda: all_are_done(browser, 1_000), 2 * PATIENCE)
    # What had no answer is received again.
    browser.wait_for("the queue is empty", lambda: browser.text('[data-count="queue"]') == "0", 4 * PATIENCE)
    stack.notifyctl("redrive", "malformed-01")
    stack.wait_for_status("malformed-01", "DONE")
    browser.press("/", "/")
    browser.type("malformed-01")
    browser.press("Enter", "\r")
    browser.wait_for("its timeline", lambda: "DONE" in browser.text(".timeline"))
    browser.run("document.activeElement.blur()")
    for name, width, scheme in (("light", 1280, "light"), ("dark", 1280, "dark"), ("narrow", 390, "light")):
        browser.resize(width, 800, scheme)
        browser.resize(width, browser.run("document.documentElement.scrollHeight"), scheme)
        browser.screenshot(folder / f"ui-{name}.png")
