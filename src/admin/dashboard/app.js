// The dashboard: reads the stream of frames and shows it, and asks the endpoints for what an operator wants.
//
// Whatever comes from the proxy goes into the page as text, by `textContent` and `data` of text nodes. Rows are kept and
// changed in place, once per animation frame. Nothing is requested from anywhere but the proxy.

const POINTS = 120; // of a sparkline, a second each
const ROWS_MAX = 2000; // rows that are shown at once; of more, the first ROWS_SHOWN
const ROWS_SHOWN = 500;
const EVENTS_MAX = 100;
const SILENCE_MS = 2500; // frames come every second
const GIVE_UP_MS = 20000;
const HIDDEN_MS = 30000; // a tab that nobody sees lets go of its connection
const RETRY_MS = [1000, 2000, 4000, 8000];
const SAY_MS = 5000;
const AT_A_TIME = 4; // requests of an action on several servers

const $ = (id) => document.getElementById(id);
const on = (element, event, then, options) => element.addEventListener(event, then, options);
const node = () => document.createTextNode("");
// Changes what an element says, if it says something else.
const put = (id, words) => {
	if ($(id).textContent !== words) $(id).textContent = words;
};
// Rows are laid out as grids, which takes their meaning away in some browsers: the roles give it back.
const ROLES = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", td: "cell" };
const el = (name, props = {}, ...children) => {
	const element = Object.assign(document.createElement(name), props);
	if (ROLES[name]) element.setAttribute("role", ROLES[name]);
	element.append(...children);
	return element;
};

// ---- Numbers and words

const grouped = new Intl.NumberFormat("en-US");
const none = "–";

const count = (number) => (number === null ? none : grouped.format(number));
const things = (number, one) => `${count(number)} ${one}${number === 1 ? "" : "s"}`;

function scaled(number, units, step) {
	let at = 0;
	while (number >= step && at < units.length - 1) {
		number /= step;
		at += 1;
	}
	return `${number >= 100 || at === 0 ? Math.round(number) : number.toFixed(1)} ${units[at]}`;
}

// Zeros at the end of a row are left out; what cannot be told is null.
const told = (row, at) => (row[at] === undefined ? 0 : row[at]);
const bytes = (number) => (number === null ? none : scaled(number, ["B/s", "kB/s", "MB/s", "GB/s"], 1000));
const micros = (number) => (number ? scaled(number, ["µs", "ms", "s"], 1000) : none);
const nanos = (number) => (number === null ? none : scaled(number, ["ns", "µs", "ms", "s"], 1000));

function lasted(ms) {
	const minutes = Math.floor(ms / 60000);
	if (minutes < 1) return "< 1 min";
	if (minutes < 60) return `${minutes} min`;
	if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
	return `${Math.floor(minutes / 1440)} d`;
}

// What a server is, in one word, and how far up it is sorted.
const WORDS = ["offline", "suspect", "full", "drain", "maint", "online"];
const TROUBLE = new Set(["offline", "suspect"]);

function wordOf({ facts, row }) {
	if (facts.state !== "ready") return facts.state;
	if (facts.online) return "online";
	if (facts.suspect) return "suspect";
	return facts.sessions_max > 0 && row[1] >= facts.sessions_max ? "full" : "offline";
}

// ---- What is known

const known = {
	t: 0,
	process: null,
	totals: [0, null, null, null],
	groups: new Map(), // by number
	servers: new Map(), // by number
	policies: [],
	history: [1, 2, 3, 4].map(() => []),
};
const changed = { all: true, rows: new Set(), policies: true, process: true, events: [] };
const selected = new Set(); // servers
const view = { q: "", state: "", sort: "state", down: false, paused: false, pointerAt: 0 };

const keyOf = (group, addr) => `${group}\n${addr}`;

function push(history, number) {
	if (number !== null) history.push(number);
	if (history.length > POINTS) history.shift();
}

// A state replaces what was known; what was shown before keeps its row.
function takeState(data) {
	const groups = new Map([...known.groups.values()].map((group) => [group.facts.group, group]));
	const servers = new Map([...known.servers.values()].map((server) => [server.key, server]));
	known.groups = new Map();
	known.servers = new Map();
	for (const facts of data.groups ?? []) {
		const old = groups.get(facts.group);
		known.groups.set(facts.i, Object.assign(old ?? { row: [], history: [], dom: null }, { facts }));
	}
	for (const facts of data.servers ?? []) {
		const group = known.groups.get(facts.g);
		const key = keyOf(group.facts.group, facts.addr);
		const old = servers.get(key);
		servers.delete(key);
		known.servers.set(facts.i, Object.assign(old ?? { key, row: [], dom: null, word: "" }, { facts, group }));
	}
	for (const server of servers.values()) selected.delete(server);
}

function takeChange(data) {
	for (const facts of data.groups ?? []) {
		const group = known.groups.get(facts.i);
		if (group) group.facts = facts;
		else known.groups.set(facts.i, { facts, row: [], history: [], dom: null });
	}
	for (const facts of data.servers ?? []) {
		const server = known.servers.get(facts.i);
		const group = known.groups.get(facts.g);
		if (server) server.facts = facts;
		else known.servers.set(facts.i, { key: keyOf(group.facts.group, facts.addr), facts, group, row: [], dom: null, word: "" });
	}
	for (const i of data.gone?.servers ?? []) {
		selected.delete(known.servers.get(i));
		changed.rows.delete(known.servers.get(i));
		known.servers.delete(i);
	}
	for (const i of data.gone?.groups ?? []) known.groups.delete(i);
}

function take(name, data) {
	known.t = data.t;
	if (name === "state") takeState(data);
	else takeChange(data);
	if (name === "state" || data.groups || data.servers || data.gone) changed.all = true;
	if (data.process) {
		known.process = data.process;
		changed.process = true;
	}
	if (data.policies) {
		known.policies = data.policies;
		changed.policies = true;
	}
	known.totals = [0, 1, 2, 3].map((at) => told(data.p, at));
	known.totals.forEach((number, at) => push(known.history[at], number));
	for (const row of data.g ?? []) {
		const group = known.groups.get(row[0]);
		if (group) group.row = row;
	}
	for (const group of known.groups.values()) push(group.history, told(group.row, 2));
	for (const row of data.s ?? []) {
		const server = known.servers.get(row[0]);
		if (server) {
			server.row = row;
			changed.rows.add(server);
		}
	}
	for (const facts of data.servers ?? []) changed.rows.add(known.servers.get(facts.i));
	noteTurns(data.servers ?? []);
	show();
}

// ---- What a screen reader is told: one thing in five seconds

const turns = { offline: 0, online: 0, saidAt: 0, timer: 0 };

function noteTurns(all) {
	for (const { i } of all) {
		const server = known.servers.get(i);
		const word = wordOf(server);
		if (server.word && server.word !== word) {
			if (TROUBLE.has(word)) turns.offline += 1;
			else if (word === "online") turns.online += 1;
		}
		server.word = word;
	}
	if (turns.offline + turns.online > 0 && !turns.timer) {
		turns.timer = setTimeout(sayTurns, Math.max(0, turns.saidAt + SAY_MS - Date.now()));
	}
}

function sayTurns() {
	const parts = [];
	if (turns.offline) parts.push(`${things(turns.offline, "server")} went offline`);
	if (turns.online) parts.push(`${things(turns.online, "server")} came online`);
	put("said", parts.join(", "));
	Object.assign(turns, { offline: 0, online: 0, saidAt: Date.now(), timer: 0 });
}

// ---- The stream

const link = { abort: null, heardAt: 0, lastEvent: "", tries: 0, wanted: true, wake: null };

function setLink(state, why = "") {
	const text = { live: "live", paused: "paused", lost: `not connected${why && `: ${why}`}` }[state];
	attr($("link"), "data-link", state);
	put("link", text);
}

const setAlive = () => setLink(view.paused ? "paused" : "live");

function headers() {
	const token = sessionStorage.getItem("goproxy-token");
	return token ? { Authorization: `Bearer ${token}` } : {};
}

// Reads the stream until it ends. An event may be cut anywhere, also within a character.
async function read(signal) {
	const asked = headers();
	if (link.lastEvent) asked["Last-Event-ID"] = link.lastEvent;
	const response = await fetch("events?view=ui", { headers: asked, signal, cache: "no-store" });
	if (!response.ok) {
		const { code, msg } = await response.json().catch(() => ({ code: "", msg: `status ${response.status}` }));
		if (response.status === 401 || response.status === 403) await askToken(headers().Authorization ? msg : "");
		throw new Error(code === "too_many_viewers" ? "too many viewers" : code === "stopping" ? "the proxy is stopping" : msg);
	}
	const reader = response.body.getReader();
	const decoder = new TextDecoder();
	let text = "";
	for (;;) {
		const { done, value } = await reader.read();
		if (done) return;
		link.heardAt = Date.now();
		const searched = Math.max(0, text.length - 1);
		text += decoder.decode(value, { stream: true });
		if (text.indexOf("\n\n", searched) < 0) continue;
		const events = text.split("\n\n");
		text = events.pop();
		for (const event of events) takeEvent(event);
	}
}

function takeEvent(text) {
	const fields = {};
	for (const line of text.split("\n")) {
		const colon = line.indexOf(": ");
		if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
	}
	if (!fields.data) return;
	const data = JSON.parse(fields.data);
	if (fields.event === "state" || fields.event === "change") {
		link.tries = 0;
		setAlive();
		take(fields.event, data);
		return;
	}
	if (fields.id) link.lastEvent = fields.id;
	changed.events.push({ name: fields.event, data });
	if (changed.events.length > EVENTS_MAX) changed.events.shift();
	show();
}

const pause = (ms) =>
	new Promise((resolve) => {
		const timer = setTimeout(resolve, ms);
		link.wake = () => {
			clearTimeout(timer);
			resolve();
		};
	});

async function follow() {
	for (;;) {
		if (!link.wanted) {
			await pause(1e9);
			continue;
		}
		let why = "";
		link.abort = new AbortController();
		link.heardAt = Date.now();
		try {
			await read(link.abort.signal);
		} catch (error) {
			why = error instanceof TypeError || error.name === "AbortError" ? "" : error.message;
		}
		if (link.wanted) setLink("lost", why);
		const wait = RETRY_MS[Math.min(link.tries, RETRY_MS.length - 1)];
		link.tries += 1;
		if (link.wanted) await pause(wait * (0.75 + Math.random() / 4));
	}
}

// A proxy that hangs keeps its connections, and nothing comes.
setInterval(() => {
	const silent = Date.now() - link.heardAt;
	if (link.wanted && silent > SILENCE_MS && $("link").dataset.link !== "lost") setLink("lost");
	if (link.wanted && silent > GIVE_UP_MS) link.abort?.abort();
}, 500);

// A browser opens six connections to a host: a tab that nobody sees leaves its own to others.
let hiding = 0;
on(document, "visibilitychange", () => {
	clearTimeout(hiding);
	const want = (wanted) => {
		if (link.wanted === wanted) return;
		link.wanted = wanted;
		link.tries = 0;
		link.abort?.abort();
		link.wake?.();
	};
	if (document.hidden) hiding = setTimeout(want, HIDDEN_MS, false);
	else want(true);
});

// Asks for the token, and waits for it.
function askToken(wrong) {
	$("forget").hidden = false;
	put("forget", "Enter token");
	put("ask-answer", wrong);
	setLink("lost", "no token");
	if (!$("ask").open) $("ask").showModal();
	return new Promise((resolve) => {
		on($("ask"), 
			"close",
			() => {
				if ($("token").value) sessionStorage.setItem("goproxy-token", $("token").value);
				const given = Boolean($("token").value);
				$("token").value = "";
				put("forget", given ? "Forget token" : "Enter token");
				link.tries = 0;
				if (given) resolve();
				else pause(1e9).then(resolve);
			},
			{ once: true },
		);
	});
}

on($("forget"), "click", () => {
	sessionStorage.removeItem("goproxy-token");
	link.abort?.abort();
	link.wake?.();
});

async function post(path, params) {
	try {
		const body = new URLSearchParams(params);
		const response = await fetch(path, { method: "POST", headers: headers(), body, cache: "no-store" });
		const answer = await response.json();
		return { ok: response.ok && answer.ok, msg: answer.msg };
	} catch {
		return { ok: false, msg: "not connected" };
	}
}

// ---- Showing

let isAsked = false;

function show() {
	if (isAsked || view.paused) return;
	isAsked = true;
	requestAnimationFrame(() => {
		isAsked = false;
		if (!view.paused) render();
	});
}

function render() {
	if (!known.process) return;
	tally();
	showOverview();
	if (changed.all || isLive(view.sort)) showGroups();
	for (const group of known.groups.values()) showFigures(group);
	for (const server of changed.rows) {
		if (server.dom?.isShown) {
			showRow(server);
			changed.rows.delete(server);
		}
	}
	if (changed.policies) showPolicies();
	if (changed.events.length) showEvents();
	if (selected.size || !$("selection").hidden) showSelection();
	changed.all = changed.policies = changed.process = false;
}

// Changes a text node only when it says something else.
const text = (node, value) => {
	if (node.data !== value) node.data = value;
};
const attr = (element, name, value) => {
	if (element.getAttribute(name) !== value) element.setAttribute(name, value);
};

// A text node in a new element.
function cell(name, className = "", field) {
	const said = node();
	const element = el(name, { className }, said);
	if (field) element.dataset.field = field;
	return [element, said];
}

function sparkline(label) {
	const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
	const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
	svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 24`);
	svg.setAttribute("preserveAspectRatio", "none");
	svg.setAttribute("class", "spark");
	svg.setAttribute("aria-hidden", "true");
	svg.dataset.of = label;
	svg.append(line);
	return [svg, line];
}

// The newest point is at the right edge.
function draw(line, history) {
	const top = Math.max(1, ...history);
	const from = POINTS - history.length;
	const points = history.map((number, at) => `${from + at},${(22.5 - (number / top) * 21).toFixed(1)}`);
	line.setAttribute("points", points.join(" "));
}

const tiles = [
	["Servers online", () => [`${count(known.online)} of ${count(known.servers.size)}`, known.trouble ? `${count(known.trouble)} in trouble` : "none in trouble"]],
	["Sessions", () => [count(known.totals[0]), `of ${count(known.process.sessions_max)}`], 0],
	["New sessions", () => [`${count(known.totals[1])} /s`, ""], 1],
	["To servers", () => [bytes(known.totals[2]), ""], 2],
	["To clients", () => [bytes(known.totals[3]), ""], 3],
].map(([label, read, history]) => {
	const [value, valueText] = cell("strong");
	const [more, moreText] = cell("small");
	const tile = el("div", { className: "tile" }, el("span", { textContent: label }), value, more);
	let line = null;
	if (history !== undefined) {
		const [svg, drawn] = sparkline(label);
		tile.append(svg);
		line = drawn;
	}
	$("overview").append(tile);
	return { read, valueText, moreText, more, line, history };
});

function showOverview() {
	for (const { read: values, valueText, moreText, more, line, history } of tiles) {
		const [value, beside] = values();
		text(valueText, value);
		text(moreText, beside);
		attr(more, "data-bad", String(/^\d.* in trouble/.test(beside)));
		if (line) draw(line, known.history[history]);
	}
	const { process } = known;
	const up = process.started_ms ? `, up ${lasted(known.t - process.started_ms)}` : "";
	put("facts", `${process.version}${up}`);
	const title = known.trouble ? `▲ ${count(known.trouble)} in trouble – goproxy` : "goproxy";
	if (document.title !== title) document.title = title;
	if (!changed.process) return;
	const notices = [];
	const { reload } = process;
	if (!process.ready) notices.push("Not ready: an open group does not listen yet, or the proxy is stopping.");
	if (reload.error) {
		const ago = lasted(known.t - reload.loaded_ms);
		notices.push(`proxy.json is refused; what was loaded ${ago} ago stays in force. ${reload.error}`);
	}
	$("notices").replaceChildren(...notices.map((notice) => el("p", { className: "notice bad" }, notice)));
}

// ---- Groups and their servers

const COLUMNS = [
	["server", "Server", (server) => server.facts.addr, false],
	["state", "State", (server) => WORDS.indexOf(wordOf(server)), false],
	["sessions", "Sessions", (server) => server.row[1] ?? 0, true],
	["share", "Share of new", (server) => server.row[3] ?? 0, true],
	["rate", "New /s", (server) => server.row[2] ?? 0, true],
	["connect", "Connect", (server) => server.row[4] ?? 0, true],
	["check", "Last check", (server) => (server.facts.check?.ok === false ? Infinity : (server.row[5] ?? 0)), true],
];
const isLive = (sort) => !["server", "state"].includes(sort);
const collator = new Intl.Collator("en", { numeric: true });

function order(a, b) {
	const value = COLUMNS.find(([name]) => name === view.sort)[2];
	const [left, right] = [value(a), value(b)];
	const by = typeof left === "string" ? collator.compare(left, right) : left === right ? 0 : left < right ? -1 : 1;
	return (view.down ? -by : by) || a.facts.i - b.facts.i;
}

function isMeant(server, words) {
	const word = wordOf(server);
	if (view.state && !(view.state === "trouble" ? TROUBLE.has(word) : word === view.state)) return false;
	const { facts, group } = server;
	const all = `${group.facts.group} ${group.facts.port} ${facts.addr} ${word} ${facts.cause ?? ""}`.toLowerCase();
	return words.every((part) => all.includes(part));
}

function showGroups() {
	// Rows do not move away under a pointer, nor under a pause.
	if (!changed.all && Date.now() - view.pointerAt < 2000) return;
	const words = view.q.toLowerCase().split(/\s+/).filter(Boolean);
	const isFiltered = words.length > 0 || view.state !== "";
	const of = new Map([...known.groups.values()].map((group) => [group, []]));
	let total = 0;
	for (const server of known.servers.values()) {
		if (isMeant(server, words)) {
			of.get(server.group)?.push(server);
			total += 1;
		}
	}
	let left = total > ROWS_MAX ? ROWS_SHOWN : Infinity;
	const focused = document.activeElement;
	const sections = [];
	const isShown = new Set();
	// Where something is wrong comes first.
	const sorted = [...of].sort(([a], [b]) => (view.sort === "state" ? (b.trouble > 0) - (a.trouble > 0) : 0));
	let away = 0;
	for (const [group, servers] of sorted) {
		if (isFiltered && servers.length === 0) continue;
		if (left === 0) {
			away += 1;
			continue;
		}
		group.dom ??= groupSection(group);
		servers.sort(order);
		const shown = left === Infinity ? servers : servers.slice(0, left);
		left -= shown.length;
		for (const server of shown) isShown.add(server);
		arrange(group.dom.body, shown.map(rowOf));
		const more = servers.length - shown.length;
		text(group.dom.more, more ? `${things(more, "server")} more: narrow the search` : servers.length ? "" : "No servers.");
		group.dom.moreRow.hidden = !group.dom.more.data;
		sections.push(group.dom.section);
	}
	for (const server of known.servers.values()) {
		if (!server.dom) continue;
		server.dom.isShown = isShown.has(server);
		// The words of a row may have become others while it was not shown.
		if (server.dom.isShown && changed.all) changed.rows.add(server);
	}
	if (away) sections.push(el("p", { className: "more" }, `${things(away, "group")} more: narrow the search`));
	arrange($("groups"), sections.length ? sections : [nothing(isFiltered)]);
	if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
	const matches = isFiltered ? `${count(total)} of ${things(known.servers.size, "server")}` : things(total, "server");
	put("count", matches);
	showSort();
}

const nothing = (isFiltered) =>
	el("p", { className: "empty", textContent: isFiltered ? "No server matches." : "proxy.json has no groups." });

// Puts children into this order and moves as few as it can.
function arrange(parent, children) {
	let at = parent.firstChild;
	for (const child of children) {
		if (at && at !== child && at.nextSibling === child) {
			const away = at;
			at = child;
			away.remove();
		}
		if (at === child) at = at.nextSibling;
		else parent.insertBefore(child, at);
	}
	while (at) {
		const next = at.nextSibling;
		at.remove();
		at = next;
	}
}

const head = (content, isNumber) => el("th", { scope: "col", role: "columnheader", className: isNumber ? "number" : "" }, content);

function groupSection(group) {
	const { facts } = group;
	const dom = {};
	const figure = (field, label) => {
		const [value, node] = cell("b", "", field);
		dom[field] = node;
		const element = el("span", { className: `figure of-${field}` }, value, ` ${label}`);
		if (field === "refused") dom.refusedAt = element;
		return element;
	};
	const title = el("h2", {}, facts.group);
	[dom.where, dom.whereText] = cell("span", "where");
	[dom.note, dom.noteText] = cell("span", "note");
	dom.policy = el("button", { type: "button", className: "policy" });
	on(dom.policy, "click", () => askPolicy(group));
	const [svg, line] = sparkline("New sessions");
	dom.line = line;
	const figures = el(
		"span",
		{ className: "figures" },
		figure("refused", "refused/s"),
		figure("online", "online"),
		figure("sessions", "sessions"),
		figure("rate", "new/s"),
		figure("up", "to servers"),
		figure("down", "to clients"),
	);
	const top = el("header", {}, title, dom.where, dom.policy, dom.note, figures, svg);
	const all = el("input", { type: "checkbox", ariaLabel: `Select all of group ${facts.group}` });
	const sorting = ([name, label, , isNumber]) => {
		const button = el("button", { type: "button" }, label);
		button.dataset.sort = name;
		return head(button, isNumber);
	};
	dom.heads = [head(all), ...COLUMNS.map(sorting), head("Why"), head("Set to")];
	dom.body = el("tbody");
	const table = el("table", {}, el("thead", {}, el("tr", {}, ...dom.heads)), dom.body);
	table.setAttribute("aria-label", `Servers of group ${facts.group}`);
	[dom.moreRow, dom.more] = cell("p", "more");
	dom.section = el("section", { className: "group" }, top, table, dom.moreRow);
	dom.section.setAttribute("aria-label", `Group ${facts.group}`);
	dom.section.dataset.group = facts.group;
	watcher.observe(dom.section);
	dom.section.group = group;
	return dom;
}

// Sections that are in sight: the others need no new figures.
const inSight = new Set();
const watcher = new IntersectionObserver((entries) => {
	for (const { target, isIntersecting } of entries) {
		if (isIntersecting) inSight.add(target);
		else inSight.delete(target);
	}
	show();
});

function showFigures(group) {
	const { dom, facts, row, history } = group;
	if (!dom || (!inSight.has(dom.section) && !changed.all)) return;
	text(dom.online, `${count(group.online)} of ${count(group.servers)}`);
	text(dom.sessions, count(row[1] ?? 0) + (facts.sessions_max ? ` of ${count(facts.sessions_max)}` : ""));
	text(dom.rate, count(told(row, 2)));
	text(dom.up, bytes(told(row, 3)));
	text(dom.down, bytes(told(row, 4)));
	text(dom.refused, count(row[5] ?? 0));
	dom.refusedAt.hidden = !row[5];
	draw(dom.line, history);
	if (!changed.all) return;
	text(dom.whereText, facts.listen);
	dom.policy.textContent = facts.policy;
	attr(dom.policy, "aria-label", `Policy of group ${facts.group}: ${facts.policy}. Change it`);
	const notes = facts.open ? [] : ["closed: takes no clients"];
	if (facts.policy_state !== "loaded") notes.push(`${facts.policy} is ${facts.policy_state}: ${facts.fallback ?? "its fallback"} answers`);
	if (facts.fail_open) notes.push("fail open: only servers that checks keep out are left");
	if (facts.self_preservation) notes.push("self-preservation: most heartbeats stopped, leases are kept");
	text(dom.noteText, notes.join(" · "));
	dom.note.hidden = notes.length === 0;
}

// Counts the servers of every group.
function tally() {
	known.online = known.trouble = 0;
	for (const group of known.groups.values()) Object.assign(group, { servers: 0, online: 0, trouble: 0, shareBefore: group.shareMax, shareMax: 1 });
	for (const server of known.servers.values()) {
		const { group } = server;
		const word = wordOf(server);
		group.servers += 1;
		if (word === "online") {
			group.online += 1;
			known.online += 1;
		} else if (TROUBLE.has(word)) {
			group.trouble += 1;
			known.trouble += 1;
		}
		group.shareMax = Math.max(group.shareMax, server.row[3] ?? 0);
	}
	for (const server of known.servers.values()) {
		if (server.group.shareMax !== server.group.shareBefore && server.row[3]) changed.rows.add(server);
	}
}

function rowOf(server) {
	server.dom ??= makeRow(server);
	return server.dom.row;
}

function makeRow(server) {
	const { facts, group } = server;
	const dom = {};
	const row = el("tr", { tabIndex: -1 });
	const td = (field, className, ...children) => {
		const element = el("td", { className }, ...children);
		if (field) element.dataset.field = field;
		row.append(element);
		return element;
	};
	const small = (name) => el("small", {}, (dom[name] = node()));
	dom.pick = el("input", { type: "checkbox", ariaLabel: `Select ${facts.addr}` });
	td("", "pick", dom.pick);
	row.append(el("th", { scope: "row", role: "rowheader" }, el("bdi", { textContent: facts.addr, title: facts.addr }), small("what")));
	const word = el("span", { className: "state" }, (dom.word = node()));
	word.dataset.field = "state";
	td("", "", word, small("since"));
	td("sessions", "number", (dom.sessions = node()));
	dom.bar = el("span", { className: "bar-of" });
	td("share", "share", el("span", { className: "number" }, (dom.share = node())), el("span", { className: "track", ariaHidden: "true" }, dom.bar));
	td("rate", "number", (dom.rate = node()));
	td("connect", "number", (dom.connect = node()));
	td("check", "number", (dom.checked = node()));
	td("cause", "cause", el("span", {}, (dom.cause = node())));
	dom.answer = el("output", { hidden: true });
	dom.buttons = ["drain", "maint"].map((act) => {
		const button = el("button", { type: "button" });
		button.dataset.act = act;
		return button;
	});
	td("", "acts", ...dom.buttons, dom.answer);
	row.dataset.group = group.facts.group;
	row.dataset.server = facts.addr;
	row.server = server;
	dom.row = row;
	server.dom = dom;
	showRow(server);
	return dom;
}

function showRow(server) {
	const { facts, row, dom } = server;
	const word = wordOf(server);
	const what = [{ file: "from the file", heartbeat: "registered itself" }[facts.origin] ?? facts.origin];
	if (facts.weight !== 1) what.push(`weight ${facts.weight}`);
	if (facts.backup) what.push("backup");
	text(dom.what, what.join(" · "));
	text(dom.word, word);
	attr(dom.row, "data-state", word);
	text(dom.since, facts.since_ms ? lasted(known.t - facts.since_ms) : "");
	figureIn(dom.sessions, row[1] ?? 0, facts.sessions_max ? ` of ${count(facts.sessions_max)}` : "");
	const share = row[3] ?? 0;
	figureIn(dom.share, share, " %");
	// The longest bar is that of the server with most.
	const width = Math.round((100 * share) / Math.max(1, server.group.shareMax));
	if (dom.width !== width) dom.bar.style.width = `${(dom.width = width)}%`;
	figureIn(dom.rate, told(row, 2), "");
	text(dom.connect, micros(row[4]));
	const { check } = facts;
	text(dom.checked, check ? `${check.kind} ${check.ok ? (row[5] ? micros(row[5]) : "ok") : "failed"}` : none);
	text(dom.cause, facts.cause ?? (check && !check.ok ? (check.error ?? "") : ""));
	if (dom.cause.parentNode.title !== dom.cause.data) dom.cause.parentNode.title = dom.cause.data;
	const acts = { ready: ["drain", "maint"], drain: ["ready", "maint"], maint: ["ready", "drain"] }[facts.state];
	dom.buttons.forEach((button, at) => {
		const label = capital(acts[at]);
		if (button.textContent === label) return;
		button.textContent = label;
		button.dataset.act = acts[at];
		attr(button, "aria-label", `${label} ${facts.addr}`);
	});
}

// Nothing is said quietly.
function figureIn(node, number, unit) {
	text(node, count(number) + unit);
	const cell = node.parentNode;
	if (cell.classList.contains("nil") === Boolean(number)) cell.classList.toggle("nil", !number);
}

const capital = (word) => word[0].toUpperCase() + word.slice(1);

// Times that pass by themselves.
setInterval(() => {
	if (view.paused) return;
	for (const server of known.servers.values()) {
		if (server.dom?.isShown && server.facts.since_ms) text(server.dom.since, lasted(known.t - server.facts.since_ms));
	}
}, 15000);

// ---- Policies and events

const POLICY_COLUMNS = [
	["Policy", (policy) => policy.name],
	["State", (policy) => policy.state],
	["Version", (policy) => policy.version ?? none],
	["Groups", (policy) => count(policy.groups)],
	["Picks", (policy) => count(policy.calls)],
	["Faults", (policy) => count(policy.faults)],
	["Fallbacks", (policy) => count(policy.fallbacks)],
	["Cost of a pick", (policy) => nanos(policy.cost_ns)],
	["Why", (policy) => policy.error ?? ""],
];

function showPolicies() {
	const panel = $("policies");
	panel.hidden = known.policies.length === 0;
	const [top, body] = [panel.querySelector("thead tr"), panel.querySelector("tbody")];
	const isNumber = (at) => at >= 3 && at <= 7;
	if (!top.firstChild) {
		top.append(...POLICY_COLUMNS.map(([label], at) => head(label, isNumber(at))));
	}
	while (body.children.length > known.policies.length) body.lastChild.remove();
	known.policies.forEach((policy, at) => {
		const row = body.children[at] ?? body.appendChild(policyRow(isNumber));
		attr(row, "data-policy", policy.name);
		attr(row, "data-state", policy.state);
		POLICY_COLUMNS.forEach(([, read], column) => text(row.children[column].firstChild, read(policy)));
	});
}

function policyRow(isNumber) {
	const row = el("tr", {});
	POLICY_COLUMNS.forEach(([label], at) => {
		const element = el(at ? "td" : "th", { className: isNumber(at) ? "number" : "" });
		if (!at) element.scope = "row";
		element.dataset.label = label;
		element.append(node());
		row.append(element);
	});
	return row;
}

const SHOWN_APART = new Set(["at", "level", "message", "group", "group.name", "server.addr", "client.addr", "method", "status", "code", "elapsed_ms", "sha256", "compile_ms"]);

// What an event says, in one line.
function words({ data }) {
	const parts = [data.message];
	const group = data["group.name"] ?? data.group;
	if (group !== undefined) parts.push(`group ${group}`);
	const server = data["server.addr"] ?? data.server;
	if (server) parts.push(server);
	for (const [name, value] of Object.entries(data)) {
		if (!SHOWN_APART.has(name) && name !== "server") parts.push(name === "cause" || name === "error" ? String(value) : `${name} ${value}`);
	}
	return parts.join(" · ");
}

function showEvents() {
	const list = $("events").querySelector("ol");
	$("events").hidden = false;
	for (const event of changed.events) {
		const at = event.data.at ? new Date(event.data.at).toLocaleTimeString([], { hour12: false }) : "";
		const { missed, restarted } = event.data;
		const said = event.name !== "gap" ? words(event) : restarted ? "the proxy was started anew" : `${missed} events were missed`;
		const item = el("li", {}, el("time", {}, at), el("code", {}, event.name), el("bdi", {}, said));
		item.dataset.level = event.data.level ?? "";
		list.prepend(item);
	}
	while (list.children.length > EVENTS_MAX) list.lastChild.remove();
	changed.events.length = 0;
}

// ---- What an operator wants

function select(server, isSelected) {
	if (isSelected) selected.add(server);
	else selected.delete(server);
	if (server.dom) {
		server.dom.pick.checked = isSelected;
		server.dom.row.classList.toggle("selected", isSelected);
	}
	showSelection();
}

function showSelection() {
	$("selection").hidden = selected.size === 0;
	document.body.classList.toggle("selecting", selected.size > 0);
	if (!selected.size) for (const box of document.querySelectorAll("thead input")) box.checked = false;
	let sessions = 0;
	for (const server of selected) sessions += server.row[1] ?? 0;
	put("selected", `${things(selected.size, "server")} selected, ${things(sessions, "session")}`);
}

// Asks, and is true when the answer is yes. The dialog gives the focus back.
function confirmWith({ title, what, items, yes }) {
	put("confirm-title", title);
	put("confirm-what", what);
	$("confirm-list").replaceChildren(...items.map((item) => el("li", {}, el("bdi", {}, item))));
	$("confirm").querySelector(".main").textContent = yes;
	$("confirm").returnValue = "";
	$("confirm").showModal();
	return new Promise((resolve) => {
		on($("confirm"), "close", () => resolve($("confirm").returnValue === "yes"), { once: true });
	});
}

const LISTED_MAX = 12;

function whatHappens(act, servers) {
	const sessions = servers.reduce((sum, server) => sum + (server.row[1] ?? 0), 0);
	const goOn = sessions ? `${things(sessions, "session")} ${sessions === 1 ? "goes" : "go"} on` : "No session is left";
	const parts = {
		drain: [`${goOn}; no new ones.`],
		maint: [`${goOn}${sessions ? " unless on_down of the group closes them" : ""}; no new ones, and no checks.`],
		ready: ["New sessions come again, once nothing else is against it."],
	}[act];
	if (act !== "ready") {
		for (const group of new Set(servers.map((server) => server.group))) {
			const going = servers.filter((server) => server.group === group && wordOf(server) === "online").length;
			if (group.online === going) parts.push(`Group ${group.facts.group} then has no server that is online.`);
		}
	}
	return parts.join(" ");
}

async function setState(act, servers) {
	if (servers.length === 0 || $("confirm").open) return;
	const isOne = servers.length === 1;
	const name = isOne ? servers[0].facts.addr : things(servers.length, "server");
	const items = isOne ? [] : servers.slice(0, LISTED_MAX).map((server) => `${server.facts.addr}: ${things(server.row[1] ?? 0, "session")}`);
	if (servers.length > LISTED_MAX) items.push(`and ${count(servers.length - LISTED_MAX)} more`);
	const isMeantSo = await confirmWith({ title: `${capital(act)} ${name}?`, what: whatHappens(act, servers), items, yes: capital(act) });
	if (!isMeantSo) return;
	const waiting = [...servers];
	const failed = [];
	const work = async () => {
		for (let server = waiting.shift(); server; server = waiting.shift()) {
			const { ok, msg } = await post("worker-state.do", { group: server.group.facts.group, server: server.facts.addr, state: act });
			tell(server, ok, msg);
			if (ok) select(server, false);
			else failed.push(msg);
		}
	};
	await Promise.all(Array.from({ length: AT_A_TIME }, work));
	const done = servers.length - failed.length;
	put("said", failed.length ? `${count(done)} of ${count(servers.length)} set to ${act}; ${failed[0]}` : `${name}: set to ${act}`);
}

// Shows the answer where the buttons were, for a while.
function tell(server, ok, msg) {
	const { dom } = server;
	if (!dom) return;
	dom.answer.textContent = msg;
	dom.answer.title = msg;
	dom.answer.dataset.ok = ok;
	dom.answer.hidden = false;
	dom.buttons.forEach((button) => (button.hidden = true));
	clearTimeout(dom.told);
	dom.told = setTimeout(
		() => {
			dom.answer.hidden = true;
			dom.buttons.forEach((button) => (button.hidden = false));
		},
		ok ? 3000 : 10000,
	);
}

async function askPolicy(group) {
	if ($("confirm").open) return;
	const { facts } = group;
	const list = await fetch("policy-list.do", { headers: headers(), cache: "no-store" }).then(
		(response) => response.json(),
		() => ({ policies: [] }),
	);
	const choice = $("confirm-policy").querySelector("select");
	const names = (list.policies ?? []).map((policy) => policy.name);
	choice.replaceChildren(...names.map((name) => el("option", { value: name, textContent: name, selected: name === facts.policy })));
	$("confirm-policy").hidden = false;
	const sessions = group.row[1] ?? 0;
	const what = `It picks the server of every new session. What is there stays: ${things(sessions, "session")}. The change is written into proxy.json.`;
	const isMeantSo = await confirmWith({ title: `Another policy for group ${facts.group}?`, what, items: [], yes: "Change" });
	$("confirm-policy").hidden = true;
	if (!isMeantSo || choice.value === facts.policy) return;
	const { ok, msg } = await post("group-policy.do", { group: facts.group, policy: choice.value });
	const { dom } = group;
	dom.policy.textContent = msg;
	dom.policy.dataset.ok = ok;
	put("said", msg);
	setTimeout(
		() => {
			dom.policy.textContent = group.facts.policy;
			delete dom.policy.dataset.ok;
		},
		ok ? 3000 : 10000,
	);
}

// ---- Search, sort, pause, keys

function writeFragment() {
	const parts = new URLSearchParams();
	if (view.q) parts.set("q", view.q);
	if (view.state) parts.set("state", view.state);
	if (view.sort !== "state" || view.down) parts.set("sort", (view.down ? "-" : "") + view.sort);
	const fragment = parts.toString();
	history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
}

function readFragment() {
	const parts = new URLSearchParams(location.hash.slice(1));
	const sort = parts.get("sort") ?? "state";
	view.q = parts.get("q") ?? "";
	view.state = [...$("state").options].some((option) => option.value === parts.get("state")) ? parts.get("state") : "";
	view.down = sort.startsWith("-");
	view.sort = COLUMNS.some(([name]) => name === sort.replace("-", "")) ? sort.replace("-", "") : "state";
	$("search").value = view.q;
	$("state").value = view.state;
	refresh();
}

// Shows what is known once more, also while paused: it is the operator who has asked.
function refresh() {
	changed.all = true;
	if (!isAsked) {
		isAsked = true;
		requestAnimationFrame(() => {
			isAsked = false;
			render();
		});
	}
}

function sortBy(name) {
	const isNumber = COLUMNS.find(([column]) => column === name)[3];
	view.down = view.sort === name ? !view.down : isNumber;
	view.sort = name;
	writeFragment();
	refresh();
}

function showSort() {
	$("sort").value = view.sort;
	put("direction", view.down ? "↓" : "↑");
	for (const { dom } of known.groups.values()) {
		dom?.heads.forEach((head) => {
			const name = head.firstElementChild?.dataset.sort;
			if (name) attr(head, "aria-sort", name !== view.sort ? "none" : view.down ? "descending" : "ascending");
		});
	}
}

function setPaused(paused) {
	view.paused = paused;
	$("pause").setAttribute("aria-pressed", String(paused));
	if ($("link").dataset.link !== "lost") setAlive();
	if (!paused) refresh();
}

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
	document.documentElement.dataset.theme = theme;
	put("theme", `Theme: ${theme}`);
	localStorage.setItem("goproxy-theme", theme);
}

function moveFocus(step) {
	const rows = [...document.querySelectorAll("#groups tbody tr")];
	const at = rows.indexOf(document.activeElement.closest?.("#groups tbody tr"));
	const row = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + step))];
	row?.focus();
	row?.scrollIntoView({ block: "nearest" });
}

on(document, "keydown", (event) => {
	const target = event.target;
	if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
	if (target === $("search") && event.key === "Escape") return target.blur();
	if (target.matches("input:not([type=checkbox]), select, textarea")) return;
	const row = target.closest?.("#groups tbody tr");
	const acts = { d: "drain", r: "ready", m: "maint" };
	if (event.key === "/") $("search").focus();
	else if (event.key === "j" || event.key === "k") moveFocus(event.key === "j" ? 1 : -1);
	else if (event.key === "p") setPaused(!view.paused);
	else if (event.key === "?") $("keys").showModal();
	else if (event.key === "Enter" && target === row) select(row.server, !selected.has(row.server));
	else if (acts[event.key]) setState(acts[event.key], selected.size ? [...selected] : row ? [row.server] : []);
	else return;
	event.preventDefault();
});

on($("groups"), "click", (event) => {
	const button = event.target.closest("button");
	if (button?.dataset.sort) sortBy(button.dataset.sort);
	else if (button?.dataset.act) setState(button.dataset.act, [button.closest("tr").server]);
});
on($("groups"), "change", ({ target }) => {
	const row = target.closest("tbody tr");
	const rows = row ? [row] : [...target.closest("table").tBodies[0].children];
	for (const { server } of rows) select(server, target.checked);
});
on($("groups"), "pointermove", () => (view.pointerAt = Date.now()), { passive: true });
on($("selection"), "click", (event) => {
	const act = event.target.closest("button")?.dataset.act;
	if (act) setState(act, [...selected]);
});
on($("clear"), "click", () => [...selected].forEach((server) => select(server, false)));
on($("filter"), "submit", (event) => event.preventDefault());
on($("filter"), "input", () => {
	view.q = $("search").value.trim();
	view.state = $("state").value;
	if ($("sort").value !== view.sort) sortBy($("sort").value);
	writeFragment();
	refresh();
});
on($("direction"), "click", () => sortBy(view.sort));
on($("pause"), "click", () => setPaused(!view.paused));
on($("theme"), "click", () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]));
on($("help"), "click", () => $("keys").showModal());
on(document.querySelector(".skip"), "click", (event) => {
	event.preventDefault();
	$("groups").focus();
});
on(window, "hashchange", readFragment);

for (const [name, label] of COLUMNS) $("sort").append(el("option", { value: name, textContent: label }));
setTheme(THEMES.includes(localStorage.getItem("goproxy-theme")) ? localStorage.getItem("goproxy-theme") : "auto");
readFragment();
follow();
