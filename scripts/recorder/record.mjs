// Records `smartlog demo`: a terminal and the live page, as docs/demo.gif and docs/demo.webm.
//
//     node record.mjs PROGRAM OUT        with CHROMIUM set, beside a node_modules with playwright-core, pngjs, gifenc
//
// Everything shown is what the program said and drew while this ran; only the pace of typing is made up.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const require = createRequire(join(process.env.MODULES, "x.js"));
const { chromium } = require("playwright-core");
const { PNG } = require("pngjs");
const { GIFEncoder, applyPalette, quantize } = require("gifenc");

const [program, out] = process.argv.slice(2);
const SIZE = { width: 1100, height: 700 };
const FRAME_MS = 250;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const TERMINAL = `<!doctype html><meta charset="utf-8"><style>
  body { margin: 0; background: #10141a; color: #d7dde5; font: 15px/1.5 "DejaVu Sans Mono", monospace; }
  pre { margin: 0; padding: 28px 32px; white-space: pre-wrap; word-break: break-word; }
  .typed { color: #8fd18f; }
</style><pre id="screen"></pre>`;

/** Frames in the order of time; each holds until the next. */
class Film {
  frames = [];
  async shoot(page) {
    this.frames.push({ at: Date.now(), png: await page.screenshot({ type: "png" }) });
  }
  async watch(page, milliseconds, until = () => false) {
    const end = Date.now() + milliseconds;
    while (Date.now() < end && !(await until())) {
      const began = Date.now();
      await this.shoot(page);
      await sleep(Math.max(0, FRAME_MS - (Date.now() - began)));
    }
  }
}

const append = (page, text, kind = "") =>
  page.evaluate(
    ([text, kind]) => {
      const span = document.createElement("span");
      span.className = kind;
      span.textContent = text;
      const screen = document.getElementById("screen");
      screen.append(span);
      scrollTo(0, document.body.scrollHeight);
    },
    [text, kind],
  );

async function type(film, page, command) {
  await append(page, "$ ", "typed");
  for (let at = 0; at < command.length; at += 4) {
    await append(page, command.slice(at, at + 4), "typed");
    await film.shoot(page);
    await sleep(60);
  }
  await append(page, "\n");
}

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

async function main() {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), "recording-"));
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  const demo = spawn(program, ["demo", "--listen", `127.0.0.1:${port}`, "--demo-dir", join(folder, "demo")], { cwd: folder });
  try {
    const film = await record(browser, demo, port);
    writeFileSync(join(out, "demo.gif"), gif(film.frames));
    writeFileSync(join(out, "demo.webm"), await video(browser, film.frames));
    const seconds = (film.frames.at(-1).at - film.frames[0].at) / 1000;
    console.log(`${film.frames.length} frames, ${seconds.toFixed(0)} s: ${out}/demo.gif, ${out}/demo.webm`);
  } finally {
    demo.kill("SIGTERM");
    await browser.close();
    await sleep(1000);
    rmSync(folder, { recursive: true, force: true });
  }
}

async function record(browser, demo, port) {
  const film = new Film();
  const shown = (text) => text.replaceAll(`127.0.0.1:${port}`, "localhost:8000").replace(/^\S+Z +/, "");
  const terminal = await browser.newPage({ viewport: SIZE });
  await terminal.setContent(TERMINAL);
  await type(film, terminal, "make demo");
  let ready = false;
  let said = "";
  demo.stderr.on("data", (data) => (said += data));
  await film.watch(terminal, 20_000, async () => {
    const whole = said.lastIndexOf("\n") + 1;
    for (const line of said.slice(0, whole).split("\n").filter((line) => line.includes("INFO"))) {
      await append(terminal, `${shown(line)}\n`);
      ready ||= line.includes("the page is at");
    }
    said = said.slice(whole);
    return ready;
  });
  await film.watch(terminal, 2_000);

  const page = await browser.newPage({ viewport: SIZE, colorScheme: "light" });
  await page.goto(`http://127.0.0.1:${port}/?range=15m`);
  const anomaly = page.locator("#episodes li").first();
  await film.watch(page, 45_000, () => anomaly.isVisible());
  await film.watch(page, 8_000);
  await anomaly.locator("button, a").first().click();
  await film.watch(page, 10_000);

  const query = "curl -s 'http://localhost:8000/api/v1/anomalies?status=provisional,open' | python3 -m json.tool --no-ensure-ascii | head -n 22";
  await type(film, terminal, query);
  const answer = spawnSync("bash", ["-c", query.replace("localhost:8000", `127.0.0.1:${port}`)], { encoding: "utf8" });
  await append(terminal, answer.stdout);
  await film.watch(terminal, 7_000);

  await page.keyboard.press("Escape");
  await page.locator("#lanes").scrollIntoViewIfNeeded();
  await film.watch(page, 5_000);
  await page.evaluate(() => scrollTo({ top: document.body.scrollHeight, behavior: "smooth" }));
  await film.watch(page, 7_000);
  return film;
}

/** Two frames a second, of each only what changed, in one palette. */
function gif(frames) {
  const chosen = frames.filter((frame, n) => n === 0 || Math.floor(frame.at / 500) !== Math.floor(frames[n - 1].at / 500));
  const pictures = chosen.map(({ png }) => PNG.sync.read(png));
  const { width, height } = pictures[0];
  const sample = Buffer.concat([0, 0.3, 0.5, 0.7, 1].map((part) => pictures[Math.floor(part * (pictures.length - 1))].data));
  const palette = quantize(sample, 127);
  const transparent = palette.length;
  const encoder = GIFEncoder();
  let before = null;
  pictures.forEach((picture, n) => {
    const now = applyPalette(picture.data, palette);
    const pixels = before ? now.map((colour, at) => (colour === before[at] ? transparent : colour)) : now;
    const delay = Math.min(2_000, (chosen[n + 1]?.at ?? chosen[n].at + 3_000) - chosen[n].at);
    encoder.writeFrame(pixels, width, height, {
      palette: n === 0 ? [...palette, [0, 0, 0]] : undefined,
      transparent: n > 0,
      transparentIndex: transparent,
      dispose: 1,
      delay,
    });
    before = now;
  });
  encoder.finish();
  return encoder.bytes();
}

/** The frames at their pace, drawn on a canvas and recorded by the browser itself. */
async function video(browser, frames) {
  const page = await browser.newPage();
  await page.setContent(`<canvas width="${SIZE.width}" height="${SIZE.height}"></canvas>`);
  await page.evaluate(() => {
    const canvas = document.querySelector("canvas");
    window.parts = [];
    window.context = canvas.getContext("2d");
    window.recorder = new MediaRecorder(canvas.captureStream(), { mimeType: "video/webm;codecs=vp9", videoBitsPerSecond: 600_000 });
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.start();
  });
  const began = Date.now();
  for (const { at, png } of frames) {
    await sleep(Math.max(0, at - frames[0].at - (Date.now() - began)));
    await page.evaluate(async (data) => {
      const image = new Image();
      image.src = `data:image/png;base64,${data}`;
      await image.decode();
      context.drawImage(image, 0, 0);
    }, png.toString("base64"));
  }
  const encoded = await page.evaluate(
    () =>
      new Promise((resolve) => {
        recorder.onstop = async () => {
          const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
          let text = "";
          for (let at = 0; at < bytes.length; at += 32_768) text += String.fromCharCode(...bytes.subarray(at, at + 32_768));
          resolve(btoa(text));
        };
        recorder.stop();
      }),
  );
  return Buffer.from(encoded, "base64");
}

await main();
