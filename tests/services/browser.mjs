// What the scripts of pages share. Started by the crate's `Script`, which answers what `ask` asks for.
import { createInterface } from "node:readline";
import { strict as assert } from "node:assert";
import { pathToFileURL } from "node:url";

export const [base, modules, executablePath, scenario] = process.argv.slice(2);
const { chromium } = (await import(pathToFileURL(`${modules}/playwright-core/index.js`))).default;
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
export async function ask(words) {
  process.stdout.write(`ASK ${words}\n`);
  const { value, done } = await answers.next();
  assert(!done, `nobody answered "${words}"`);
  return value;
}

setTimeout(() => { console.log("the scenario takes longer than 150 s"); process.exit(1); }, 150_000);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const faults = [];
// While the server is away, or refuses, the browser itself reports errors.
export const expect = { faults: false };
export async function open(path, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, timezoneId: "Asia/Tokyo", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on("console", (message) => { if (message.type() === "error" && !expect.faults) faults.push(message.text()); });
  page.on("response", (response) => { if (response.status() >= 400 && !expect.faults) faults.push(`${response.status()} ${response.url()}`); });
  page.on("pageerror", (error) => faults.push(error.stack));
  await page.goto(base + path);
  return page;
}
export const says = (page, selector, words) => page.locator(selector).filter({ hasText: words }).first().waitFor();
export const row = (page, id) => page.locator(`.row[data-id="${id}"]`);
export const ids = (page) => page.locator(".row").evaluateAll((rows) => rows.map((row) => Number(row.dataset.id)));

export async function play(scenarios) {
  try {
    await scenarios[scenario]();
    assert.deepEqual(faults, [], "errors in the console");
    process.stdout.write("DONE\n");
  } catch (error) {
    console.log(`${error.stack}\nerrors in the console: ${faults.join("\n") || "none"}`);
    process.exit(1);
  }
  await browser.close();
  process.exit(0);
}
