"""Workers with Python's http.client; see README.md. With `requests` as a last argument, with that library."""

import http.client
import json
import sys
import threading
import time

admin, group, net = sys.argv[1:4]
workers, seconds, interval = map(int, sys.argv[4:7])
lock = threading.Lock()
found = {"sent": 0, "failed": 0, "errors": []}


def by_http_client():
    connection = http.client.HTTPConnection(admin)

    def get(path):
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except Exception:
            # The next request connects anew.
            connection.close()
            raise

    return get


def by_requests():
    import requests

    session = requests.Session()

    def get(path):
        answer = session.get(f"http://{admin}{path}")
        return answer.status_code, answer.content

    return get


def work(number, end, get):
    path = f"/worker-keepalive.do?group={group}&server={net}.{number // 250}.{number % 250 + 1}:80"
    upcoming = time.monotonic() + interval * number / workers
    while upcoming < end:
        time.sleep(max(0, upcoming - time.monotonic()))
        upcoming += interval
        try:
            status, body = get(path)
            error = None if status == 200 else f"{status} {body}"
        except Exception as caught:
            error = repr(caught)
        with lock:
            found["sent"] += 1
            if error:
                found["failed"] += 1
                found["errors"] = (found["errors"] + [error])[:5]


threading.stack_size(256 * 1024)
end = time.monotonic() + seconds
make = by_requests if sys.argv[7:] == ["requests"] else by_http_client
threads = [threading.Thread(target=work, args=(number, end, make())) for number in range(workers)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(found))
