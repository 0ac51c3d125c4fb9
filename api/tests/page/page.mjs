// What a user does with the live page, in a real browser. Run by ../page.rs, which serves the page and does what is
// asked on standard output: `ask("commit 501")` has it commit an anomaly, as the dataflow does.
import { readFileSync } from "node:fs";
import { strict as assert } from "node:assert";
import { ask, expect, ids, modules, open as openPage, play, row, says } from "../../../tests/services/browser.mjs";

const axeSource = readFileSync(`${modules}/axe-core/axe.min.js`, "utf8");
async function open(path, options) {
  await ask("tick"); // a pipeline that stands still is told to be stalled
  return openPage(path, options);
}

const scenarios = {
  // A change shows without a reload; click-through; feedback; the way back by keyboard.
  async follow() {
    const page = await open("/");
    await says(page, "#link-text", "Live");
    const before = await ids(page);
    assert(before.length > 0 && !before.includes(501), `rows: ${before}`);
    await page.evaluate(() => { window.notReloaded = true; });
    const committed = Number(await ask("commit 501"));
    await row(page, 501).waitFor();
    console.log(`MEASURED from commit to page: ${Date.now() - committed} ms`);
    assert(await page.evaluate(() => window.notReloaded), "no reload");
    assert.equal((await ids(page))[0], 501, "the worst of those open comes first");
    await page.locator('#lanes [data-id="501"]').waitFor();
    await says(page, "#headline-more", "the worst critical");

    await row(page, 501).focus();
    await page.keyboard.press("Enter");
    await says(page, "#detail-title", "Error rate spike in web ü");
    assert(page.url().includes("anomaly=501"));
    await page.waitForFunction(() => document.activeElement.id === "detail-title");
    await page.locator("#detail .lines li").first().waitFor();
    await says(page, "#detail-body", "Usual against actual");
    await says(page, "#volume-of", "web ü");

    await page.locator("#detail-note").fill("load test");
    await page.locator('[data-verdict="expected"]').click();
    await says(page, "#detail-said", "Kept");
    await page.locator('[data-verdict="expected"][aria-pressed="true"]').waitFor();
    await says(page, '.row[data-id="501"]', "expected");
    const other = await open("/?anomaly=501");
    await says(other, "#detail-body", "load test");
    await other.locator('[data-verdict="undo"]').click();
    await page.locator('[data-verdict="expected"][aria-pressed="false"]').waitFor(); // told by the stream
    await page.keyboard.press("Escape");
    await page.locator("#detail").waitFor({ state: "hidden" });
    assert.equal(await page.evaluate(() => document.activeElement.dataset.id), "501", "the focus is where it was");

    await ask("commit 501 resolved");
    await says(page, '.row[data-id="501"]', "resolved");
  },

  // Filters live in the URL; range, zone, pause.
  async filter() {
    const page = await open("/");
    await says(page, "#link-text", "Live");
    await row(page, 1).waitFor();
    const all = await ids(page);
    await page.locator("#filter").fill("search");
    await page.waitForFunction((count) => document.querySelectorAll(".row").length < count, all.length);
    const found = await page.locator(".row strong").allTextContents();
    assert(found.length > 0 && found.every((name) => name === "search"), `${found}`);
    await page.locator("#services th button").first().waitFor(); // services are read after the anomalies
    assert.deepEqual(await page.locator("#services th button").allTextContents(), ["search"]);
    await page.locator('[data-severity="critical"]').click();
    await page.locator('[data-show="all"]').click();
    await page.locator("#range").selectOption("24h");
    const url = new URL(page.url());
    assert.equal(url.search, "?range=24h&show=all&severity=critical&service=search");
    await page.waitForFunction(() => document.querySelectorAll(".row").length > 0);
    const again = await open(url.pathname + url.search);
    await again.waitForFunction((count) => document.querySelectorAll(".row").length === count, (await ids(page)).length);
    assert.deepEqual(await ids(again), await ids(page), "the URL alone shows the same");
    await again.locator("#clear").click();
    assert.equal(new URL(again.url()).search, "?range=24h");
    const clock = await page.locator("#clock").textContent();
    await page.locator("#zone").click();
    const hours = (text) => Number(text.split(":")[0]);
    assert.equal(hours(await page.locator("#clock").textContent()), (hours(clock) + 9) % 24, "Tokyo is nine hours on");
    await page.locator("#pause").click();
    await says(page, "#link-text", "Paused");
    await ask("commit 502");
    await again.locator('.row[data-id="502"]').waitFor();
    assert(!(await ids(page)).includes(502), "a paused page stands still");
    await page.locator("#clear").click();
    await page.locator("#pause").click();
    await row(page, 502).waitFor();
  },

  // Away and back: it says so, comes back by itself, and has missed nothing.
  async reconnect() {
    const page = await open("/");
    await says(page, "#link-text", "Live");
    await page.evaluate(() => { window.notReloaded = true; });
    expect.faults = true;
    await ask("stop");
    await says(page, "#link-text", "Disconnected");
    await ask("commit 503");
    await ask("start");
    await says(page, "#link-text", "Live");
    await row(page, 503).waitFor();
    expect.faults = false;
    assert(await page.evaluate(() => window.notReloaded));
  },

  async empty() {
    const page = await open("/");
    await says(page, "#headline-text", "No log has arrived yet");
    await says(page, "#episodes-empty", "No anomaly in this range");
    await says(page, "#services-empty", "No service has logged yet");
  },

  // Two hundred services, each with an open anomaly: how long the script takes for one update, and how much of the page it
  // changes. Rows that nobody sees wait for their turn; were all written each time, there would be a thousand changes.
  async busy() {
    const page = await open("/");
    await says(page, "#link-text", "Live");
    await page.waitForFunction(() => document.querySelectorAll("#services tr").length === 200);
    await page.waitForFunction(() => document.querySelectorAll(".row").length === 100);
    await page.evaluate(() => {
      const count = (records) => { window.changes += records.length; };
      new MutationObserver(count).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
    });
    for (const service of ["", "service-007"]) {
      await page.evaluate(() => { performance.clearMeasures(); window.changes = 0; });
      if (service) await page.locator("#filter").fill(service);
      for (let moved = 0; moved < 12; moved++) {
        const updates = () => performance.getEntriesByName("smartlog:update").length;
        const before = await page.evaluate(updates);
        await ask("move");
        await page.waitForFunction((count) => performance.getEntriesByName("smartlog:update").length > count, before);
      }
      const times = await page.evaluate(() => performance.getEntriesByName("smartlog:update").map((entry) => entry.duration).sort((a, b) => a - b));
      const at = (share) => times[Math.floor(share * (times.length - 1))].toFixed(1);
      const changes = Math.round(await page.evaluate(() => window.changes) / times.length);
      if (!service) assert(changes < 400, `${changes} changes of the page with an update`);
      console.log(`MEASURED an update ${service ? "of one service" : "of 200 services"}: ${changes} changes of the page, median ${at(0.5)} ms, 95 % ${at(0.95)} ms, most ${at(1)} ms of ${times.length}`);
    }
  },

  // Where a token is asked for, the page asks its user.
  async token() {
    expect.faults = true;
    const page = await open("/");
    await says(page, "#link-text", "A token is needed");
    await page.locator("#token").fill("slt_wrong");
    await page.locator("#token-form button").click();
    await page.waitForLoadState("networkidle"); // each look that was under way is refused by itself
    await page.locator("#token-form").waitFor();
    expect.faults = false;
    await page.locator("#token").fill(await ask("token"));
    await page.locator("#token-form button").click();
    await says(page, "#link-text", "Live");
    await row(page, 1).waitFor();
    await page.locator("#token-form").waitFor({ state: "hidden" });
    expect.faults = true; // the browser reports each refusal itself
  },

  // Why it was raised: sentences, who changed with shares before and now, who is silent, lines; a click shows a host's.
  async explained() {
    const page = await open("/?range=24h&anomaly=1");
    for (const words of ["Error rate 15 %: 12.5 × the usual 1.2 %", "Hosts that changed most", "92 % now", "11 % before", "Fell silent", "server-04", "logs/2 @ 81544", "Share of errors"]) {
      await says(page, "#detail-body", words);
    }
    await page.locator("#detail .lines").waitFor({ state: "attached" });
    const asked = page.waitForRequest((request) => request.url().includes("/api/v1/logs?") && request.url().includes("host=server-01"));
    await page.locator("#detail .changes button.link", { hasText: "server-01" }).click();
    await asked;
    await page.locator("#detail button.small", { hasText: "Only server-01" }).click();
    await page.locator("#detail button.small", { hasText: "Only server-01" }).waitFor({ state: "detached" });
  },

  // Kinds of messages: what there is most of first, but for what is new; a click shows the lines of one.
  async patterns() {
    await ask("pattern");
    const page = await open("/");
    await says(page, "#patterns-of", "all services");
    const first = page.locator("#patterns tr").first();
    await first.locator(".chip", { hasText: "new" }).waitFor();
    assert.equal(await first.locator("button").textContent(), "No route to host <*>");
    const counts = await page.locator("#patterns tr td:nth-child(2)").allTextContents();
    assert.deepEqual(counts.slice(0, 4), ["12", "58", "56", "54"]);
    const asked = page.waitForRequest((request) => request.url().includes("/api/v1/logs?") && request.url().includes("template=0000000000000384"));
    await first.locator("button").click();
    await asked;
    await page.waitForFunction(() => document.querySelectorAll("#patterns .lines li").length === 12);
    await says(page, "#patterns .lines li", "Database TIMEOUT no 11");
    await first.locator("button").click();
    await page.locator("#patterns .lines").waitFor({ state: "detached" });
    await page.locator("#filter").fill("search");
    await says(page, "#patterns-of", "search");
    await page.waitForFunction(() => document.querySelectorAll("#patterns tr").length === 1);
  },

  // Nothing serious for axe-core, nothing wider than the window: light and dark, wide and narrow, with and without detail.
  async accessible() {
    for (const colorScheme of ["light", "dark"]) {
      for (const width of [1440, 360]) {
        for (const path of ["/?range=24h", "/?range=24h&anomaly=1"]) {
          const page = await open(path, { viewport: { width, height: 800 }, colorScheme, bypassCSP: true, reducedMotion: "reduce" });
          await says(page, "#link-text", "Live");
          await row(page, 1).waitFor({ state: "attached" });
          if (path.includes("anomaly")) await page.locator("#detail .changes").first().waitFor({ state: "attached" });
          await page.waitForFunction(() => document.querySelector("#t-rate").textContent !== "–");
          const wider = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
          assert(wider <= 0, `${wider} px wider than ${width}`);
          await page.addScriptTag({ content: axeSource });
          const { violations } = await page.evaluate(() => axe.run());
          const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
          assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]), [], `${colorScheme} ${width} ${path}`);
          await page.context().close();
        }
      }
    }
  },
};

await play(scenarios);
