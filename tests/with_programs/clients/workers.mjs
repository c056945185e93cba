// Workers with Node's http and its default agent; see README.md.

import http from "node:http";

const [admin, group, net] = process.argv.slice(2, 5);
const [workers, seconds, interval] = process.argv.slice(5, 8).map(Number);
const found = { sent: 0, failed: 0, errors: [] };

const get = (url, agent) =>
  new Promise((resolve, reject) => {
    const request = http.get(url, { agent }, (answer) => {
      let text = "";
      answer.on("data", (data) => (text += data));
      answer.on("error", reject);
      answer.on("end", () => (answer.statusCode === 200 ? resolve() : reject(new Error(`${answer.statusCode} ${text}`))));
    });
    request.on("error", reject);
  });

const until = (time) => new Promise((resolve) => setTimeout(resolve, Math.max(0, time - performance.now())));

const work = async (number, end) => {
  // An agent of its own, as each worker is a process of its own in life; with the options of the default one.
  const agent = new http.Agent(http.globalAgent.options);
  const server = `${net}.${Math.floor(number / 250)}.${(number % 250) + 1}:80`;
  const url = `http://${admin}/worker-keepalive.do?group=${group}&server=${server}`;
  for (let next = performance.now() + (1000 * interval * number) / workers; next < end; next += 1000 * interval) {
    await until(next);
    try {
      await get(url, agent);
    } catch (error) {
      found.failed += 1;
      if (found.errors.length < 5) found.errors.push(String(error));
    }
    found.sent += 1;
  }
};

const end = performance.now() + 1000 * seconds;
await Promise.all(Array.from({ length: workers }, (_, number) => work(number, end)));
console.log(JSON.stringify(found));
process.exit(0);
