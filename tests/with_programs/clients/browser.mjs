// The dashboard in a headless Chromium: `node browser.mjs TOOLS SCENARIO JSON`.
//
// TOOLS is the folder in which npm has installed playwright-core and axe-core. What fails ends the program with an
// exit code; what was measured is printed, a line of JSON each.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [tools, scenario, options] = process.argv.slice(2);
const { url, pid, seconds = 30, strict = false, group, servers = [] } = JSON.parse(options);
const require = createRequire(path.join(path.resolve(tools), "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// What is promised holds on a quiet machine. Beside compilers everything takes longer, and a bit more of a core.
const slack = strict ? 1 : 20;
const slackOfCore = strict ? 1 : 2;
const deadline = 60_000;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (facts) => console.log(JSON.stringify(facts));
const ROW = "tbody tr[data-server]";

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });

// A page that notes whatever ought not to be there.
async function open(context = {}, { path: place = "/", watch = true } = {}) {
  const opened = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...context });
  const page = await opened.newPage();
  const wrong = [];
  page.on("console", (message) => wrong.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => wrong.push(`error: ${error.stack}`));
  page.on("dialog", (dialog) => wrong.push(`dialog: ${dialog.message()}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(`${url}/`) && !request.url().startsWith("data:")) wrong.push(`request: ${request.url()}`);
  });
  await page.addInitScript(() => {
    window.noted = { violations: [], shift: 0, long: 0 };
    document.addEventListener("securitypolicyviolation", (event) => noted.violations.push(event.violatedDirective));
    const note = (type, each) => new PerformanceObserver((list) => list.getEntries().forEach(each)).observe({ type, buffered: true });
    note("layout-shift", (entry) => {
      if (!entry.hadRecentInput) noted.shift += entry.value;
    });
    note("longtask", (entry) => (noted.long = Math.max(noted.long, entry.duration)));
  });
  await page.goto(`${url}${place}`);
  if (watch) await page.waitForSelector(ROW, { timeout: deadline });
  page.isFine = async () => {
    assert.deepEqual(wrong, []);
    assert.deepEqual(await page.evaluate(() => noted.violations), []);
  };
  page.close = () => opened.close();
  return page;
}

const rowOf = (page, server) => page.locator(`tr[data-server="${server}"]`);
const field = (page, server, name) => rowOf(page, server).locator(`[data-field="${name}"]`);

async function until(what, isSo, ms = deadline) {
  const from = Date.now();
  while (!(await isSo())) {
    assert.ok(Date.now() - from < ms, `waited ${ms} ms in vain: ${what}`);
    await pause(50);
  }
  return Date.now() - from;
}

const link = (page) => page.locator("[role=status][data-link]").getAttribute("data-link");

const scenarios = {
  // 1,000 servers whose figures change every second.
  async thousand() {
    const page = await open({}, { watch: false });
    await page.waitForFunction((count) => document.querySelectorAll("tbody tr[data-server]").length === count, 1000, { timeout: deadline });
    const { paint, table } = await page.evaluate(() => ({
      paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
      table: performance.now(),
    }));
    const devtools = await page.context().newCDPSession(page);
    const system = await browser.newBrowserCDPSession();
    await devtools.send("Performance.enable");
    const measure = async () => {
      await devtools.send("HeapProfiler.collectGarbage");
      const { metrics } = await devtools.send("Performance.getMetrics");
      const of = (name) => metrics.find((metric) => metric.name === name).value;
      // The time that the page's process has had of a core, not that in which it waited for one.
      const { processInfo } = await system.send("SystemInfo.getProcessInfo");
      const busy = Math.max(...processInfo.filter(({ type }) => type === "renderer").map(({ cpuTime }) => cpuTime));
      return { at: Date.now(), heap: of("JSHeapUsedSize") / 1e6, busy, nodes: of("Nodes") };
    };
    // What happens once is over, and the history of the sparklines begins to be full.
    await pause(strict ? 125_000 : 5_000);
    const before = await measure();
    await pause(500);
    await page.evaluate(() => (noted.long = 0));
    const rates = () => page.locator('tbody [data-field="rate"]').allTextContents();
    const first = await rates();
    const others = new Set();
    for (let look = 0; look < 5; look += 1) {
      await pause((seconds * 1000) / 5);
      (await rates()).forEach((rate, at) => rate !== first[at] && others.add(at));
    }
    const { long } = await page.evaluate(() => noted);
    const after = await measure();
    const changed = others.size;
    const core = (100 * (after.busy - before.busy)) / ((after.at - before.at) / 1000);
    const heap = after.heap - before.heap;
    say({ paint_ms: Math.round(paint), table_ms: Math.round(table), core_percent: +core.toFixed(1), heap_mb: +heap.toFixed(2), nodes: after.nodes - before.nodes, longest_task_ms: Math.round(long), changed });
    assert.ok(paint < 1000 * slack, `first paint after ${paint} ms`);
    assert.ok(table < 1500 * slack, `the whole table after ${table} ms`);
    assert.ok(changed > 500, `${changed} servers had another rate than at first`);
    assert.ok(Math.abs(heap) < 5, `the heap grew by ${heap} MB`);
    assert.ok(core < 15 * slackOfCore, `the page takes ${core} % of a core`);
    assert.ok(long < 100 * slack, `a task took ${long} ms`);
    await page.isFine();
  },

  // What is shown is what worker-list.do says, also after the process stood still.
  async values() {
    const page = await open();
    const list = async () => (await (await fetch(`${url}/worker-list.do?group=${group}`)).json()).servers;
    const same = () => until("every row says what the list says", async () => {
      const listed = await list();
      const shown = await page.locator(ROW).evaluateAll((rows) => rows.map((row) => {
        const of = (name) => row.querySelector(`[data-field="${name}"]`).textContent;
        return [row.dataset.server, of("state"), of("sessions"), of("cause")].join(" ");
      }));
      const word = (server) => (server.state !== "ready" ? server.state : server.online ? "online" : server.suspect && server.last_check?.ok !== false ? "suspect" : "offline");
      const expected = listed.map((server) => [server.addr, word(server), server.sessions, server.cause ?? ""].join(" "));
      return JSON.stringify(shown.sort()) === JSON.stringify(expected.sort());
    });
    await same();
    assert.equal(await link(page), "live");
    process.kill(pid, "SIGSTOP");
    const noticed = await until("it says that it is not connected", async () => (await link(page)) === "lost");
    assert.equal(await page.locator("[data-link]").textContent(), "not connected");
    await pause(strict ? 30_000 : 6_000);
    process.kill(pid, "SIGCONT");
    const recovered = await until("it is connected again", async () => (await link(page)) === "live");
    say({ noticed_ms: noticed, recovered_ms: recovered });
    assert.ok(noticed < 3000 * slack && recovered < 10_000 * slack);
    await same();
    await page.isFine();
  },

  // Whatever a name holds stays text.
  async names() {
    const hostile = ["<img src=x onerror=alert(1)>", "\"><script>alert(2)</script>", "\u202Egnp.\u2066exe\u2069", `${"y".repeat(250)}:9000`];
    const facts = { state: "ready", online: false, suspect: false, since_ms: 1, weight: 1, backup: false, origin: "file", sessions_max: 0 };
    const frame = {
      t: Date.now(), n: 1, p: [],
      process: { version: hostile[0], started_ms: 1, sessions_max: 1, ready: false, generation: 1, reload: { ok: false, loaded_ms: 1, error: hostile[1] } },
      groups: hostile.map((name, at) => ({ i: at + 1, group: name, port: 1, listen: name, open: true, policy: name, policy_state: "quarantined", fallback: name, fail_open: true, self_preservation: true, sessions_max: 0 })),
      g: [],
      servers: hostile.map((name, at) => ({ i: at + 9, g: at + 1, addr: name, cause: name, check: { ok: false, kind: name, error: name }, ...facts })),
      s: [],
      policies: hostile.map((name) => ({ name, kind: "wasm", state: name, version: name, error: name, groups: 1, calls: 1, faults: 1, fallbacks: 1, cost_ns: 1 })),
    };
    const event = { at: "2026-11-30T13:40:00.337Z", level: "WARN", message: hostile[0], group: hostile[1], cause: hostile[2], [hostile[1]]: hostile[3] };
    const page = await open({}, { watch: false });
    await page.route("**/events?view=ui", (route) => route.fulfill({
      contentType: "text/event-stream",
      body: `event: state\ndata: ${JSON.stringify(frame)}\n\nid: 1\nevent: server_offline\ndata: ${JSON.stringify(event)}\n\n`,
    }));
    await page.route("**/policy-list.do", (route) => route.fulfill({ json: { policies: hostile.map((name) => ({ name })) } }));
    await page.reload();
    await page.waitForSelector(ROW, { timeout: deadline });
    await page.locator(".policy").first().click();
    for (const name of hostile) {
      assert.equal(await page.getByText(name, { exact: true }).count() > 0, true, name);
    }
    await page.keyboard.press("Escape");
    await page.locator(`${ROW} button`).first().click();
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("img, script:not([src])").count(), 0);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 1440);
    await page.isFine();
  },

  // Without scripts it says what to ask instead.
  async noscript() {
    const page = await open({ javaScriptEnabled: false }, { watch: false });
    const said = await page.locator("noscript").textContent();
    for (const name of ["/group-list.do", "/worker-list.do", "/metrics", "text/plain"]) assert.ok(said.includes(name), said);
  },

  // A phone, both themes, and axe.
  async small() {
    for (const [width, colorScheme] of [[320, "light"], [320, "dark"], [1440, "light"], [1440, "dark"]]) {
      const page = await open({ viewport: { width, height: 800 }, colorScheme, bypassCSP: true });
      await page.evaluate(() => (noted.shift = 0));
      await pause(5000);
      const { shift } = await page.evaluate(() => noted);
      // A number that grows by a digit moves its own beginning.
      assert.ok(shift < 0.005, `${width}: things move by themselves: ${shift}`);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width, "it scrolls sideways");
      await page.evaluate(axe);
      for (const dialog of [null, "#help", ".policy"]) {
        if (dialog) await page.click(dialog);
        if (dialog) await page.waitForSelector("dialog[open]");
        const { violations, passes } = await page.evaluate(() => axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
        const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
        assert.deepEqual(found, [], `${width} ${colorScheme} ${dialog}`);
        assert.ok(passes.length > 10, "axe has looked");
        await page.keyboard.press("Escape");
      }
      await page.isFine();
      await page.close();
    }
  },

  // What an operator does, by mouse and by keys.
  async operate() {
    const page = await open();
    const [first, second] = servers;
    await rowOf(page, first).getByRole("button", { name: `Drain ${first}` }).click();
    const dialog = page.locator("dialog[open]");
    assert.match(await dialog.textContent(), /1 session goes on; no new ones\./);
    await page.keyboard.press("Escape");
    assert.equal(await page.evaluate(() => document.activeElement.ariaLabel), `Drain ${first}`, "the focus comes back");
    assert.equal(await field(page, first, "state").textContent(), "online", "nothing was done");

    // All of them at once.
    await page.locator("thead input[type=checkbox]").check();
    assert.match(await page.locator("#selection").textContent(), /2 servers selected, 1 session/);
    await page.keyboard.press("m");
    assert.match(await dialog.textContent(), /then has no server that is online/);
    await dialog.getByRole("button", { name: "Maint" }).click();
    for (const server of [first, second]) await until("it is in maintenance", async () => (await field(page, server, "state").textContent()) === "maint");
    await page.getByText("state is maint").first().waitFor({ timeout: deadline });
    await until("nothing is selected", async () => !(await page.locator("#selection").isVisible()));

    // By keys: the second row back, and its answer where the buttons were.
    await page.locator("h1").click();
    await page.keyboard.press("j");
    await page.keyboard.press("j");
    await page.keyboard.press("k");
    await page.keyboard.press("r");
    const ready = await page.evaluate(() => document.querySelector("dialog[open] h2").textContent);
    assert.equal(ready, `Ready ${first}?`);
    await dialog.getByRole("button", { name: "Ready" }).click();
    await until("it is online", async () => (await field(page, first, "state").textContent()) === "online");

    // Another policy.
    await page.locator(".policy").click();
    await dialog.getByRole("combobox").selectOption("round_robin");
    await dialog.getByRole("button", { name: "Change" }).click();
    await until("the policy is another one", async () => (await page.locator("section[data-group] .policy").textContent()) === "round_robin");
    const { groups } = await (await fetch(`${url}/group-list.do`)).json();
    assert.equal(groups[0].policy, "round_robin");

    // Search, state and sort stand in the address, and lead back to the same view.
    await page.keyboard.press("/");
    await page.keyboard.type(second);
    await until("one row is left", async () => (await page.locator(ROW).count()) === 1);
    await page.locator("#state").selectOption("maint");
    await page.locator('[data-sort="sessions"]').click();
    assert.equal(await page.locator("th[aria-sort=descending]").textContent(), "Sessions");
    const address = page.url();
    assert.deepEqual([...new URLSearchParams(new URL(address).hash.slice(1))], [["q", second], ["state", "maint"], ["sort", "-sessions"]]);
    await page.goto("about:blank");
    await page.goto(address);
    await page.waitForSelector(ROW, { timeout: deadline });
    assert.equal(await page.locator(ROW).count(), 1);
    assert.equal(await page.locator("input[type=search]").inputValue(), second);

    // A pause holds what is shown and keeps the connection.
    await page.locator("h1").click();
    await page.keyboard.press("p");
    assert.equal(await link(page), "paused");
    const answer = await fetch(`${url}/worker-state.do?group=${group}&server=${second}&state=drain`, { method: "POST" });
    assert.ok(answer.ok);
    await pause(2500);
    assert.equal(await field(page, second, "state").textContent(), "maint");
    await page.keyboard.press("p");
    await page.locator("#state").selectOption("");
    await until("it goes on", async () => (await field(page, second, "state").textContent()) === "drain");
    await page.locator("#events li").filter({ hasText: "server offline" }).first().waitFor({ timeout: deadline });
    await page.isFine();
  },

  // The token is asked for once, kept in the tab, and sent with everything.
  async token() {
    const page = await open({}, { watch: false });
    const dialog = page.locator("dialog[open]");
    await dialog.waitFor({ timeout: deadline });
    assert.equal(await page.locator(ROW).count(), 0);
    await page.getByLabel("Token", { exact: true }).fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByText("wrong token").waitFor({ timeout: deadline });
    await page.getByLabel("Token", { exact: true }).fill("secret");
    await page.keyboard.press("Enter");
    await page.waitForSelector(ROW, { timeout: deadline });
    await page.reload();
    await page.waitForSelector(ROW, { timeout: deadline });
    assert.equal(await dialog.count(), 0, "it is not asked for again");
    assert.deepEqual(await page.context().cookies(), []);
    await page.locator(`${ROW} button[data-act=drain]`).first().click();
    await dialog.getByRole("button", { name: "Drain" }).click();
    await until("the change carries the token", async () => (await page.locator(`${ROW} [data-field=state]`).first().textContent()) === "drain");
  },
};

try {
  await scenarios[scenario]();
} finally {
  await browser.close();
}
