// What a user sees of an incident on the live page. Run by page.rs, which makes the incident and restarts the server.
import { strict as assert } from "node:assert";
import { ask, expect, open, play, row, says } from "./services/browser.mjs";

const FAILING = "checkout";

await play({
  async incident() {
    const page = await open("/");
    await says(page, "#link-text", "Live");
    await says(page, "#services th", FAILING);
    await page.evaluate((failing) => {
      window.notReloaded = true;
      // When the page showed the anomaly first, and each later state of it.
      window.shown = [];
      const look = () => {
        const row = [...document.querySelectorAll(".row")].find((row) => row.querySelector(".name").textContent === failing);
        const state = row?.querySelector(".state").textContent;
        if (row && window.shown.at(-1)?.state !== state) window.shown.push({ state, id: Number(row.dataset.id), at: Date.now() });
      };
      new MutationObserver(look).observe(document.querySelector("#episodes"), { subtree: true, childList: true, characterData: true });
    }, FAILING);
    await ask("incident");
    const incident = page.locator(".row").filter({ hasText: FAILING }).first();
    await incident.waitFor({ timeout: 60_000 });
    const [first] = await page.evaluate(() => window.shown);
    const [, committed] = (await ask(`changes of ${first.id}`)).split(" ").map(Number);
    const took = first.at - committed;
    console.log(`MEASURED from the commit in the store to the page: ${took} ms`);
    assert(took <= 1000, `${took} ms from the commit to the page`);
    assert(await page.evaluate(() => window.notReloaded), "no reload");

    await incident.click();
    await says(page, "#detail-title", FAILING);
    await page.locator("#detail .lines li").first().waitFor();
    await page.locator("#detail-note").fill("seen by the test");
    await page.locator('[data-verdict="confirmed"]').click();
    await says(page, "#detail-said", "Kept");
    await says(page, ".row", "confirmed");

    // What is expected is retracted by the dataflow, which alone writes the story, and comes back when that is taken back; here
    // and with somebody else.
    const other = await open("/");
    await row(other, first.id).waitFor();
    const clicked = Date.now();
    await page.locator('[data-verdict="expected"]').click();
    await says(page, "#detail-state", "expected");
    await says(page, "#detail-body", "Expected");
    for (const each of [page, other]) await row(each, first.id).waitFor({ state: "detached" });
    console.log(`MEASURED from the click to the retraction on both pages: ${Date.now() - clicked} ms`);
    assert.match(await ask(`story of ${first.id}`), /, retracted retracted expected(,|$)/);
    await page.locator('[data-show="all"]').click();
    await says(page, `.row[data-id="${first.id}"] .state`, "expected");
    await page.locator('[data-verdict="undo"]').click();
    await says(page, "#detail-body", "No longer expected");
    await page.locator('[data-show="recent"]').click();
    for (const each of [page, other]) await row(each, first.id).waitFor();
    assert.match(await ask(`story of ${first.id}`), /, reopened (provisional|open) no longer expected(,|$)/);
    await other.close();
    await page.locator('[data-verdict="confirmed"]').click();
    await says(page, ".row", "confirmed");

    expect.faults = true;
    await ask("stop");
    await says(page, "#link-text", "Disconnected");
    await ask("start");
    await says(page, "#link-text", "Live");
    expect.faults = false;
    await says(page, ".row", "confirmed");
    assert(await page.evaluate(() => window.notReloaded), "no reload");
  },
});
