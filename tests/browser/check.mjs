// The page in a real browser: every kind of page, light and dark, wide and narrow; by keyboard alone; two persons; stale
// confirmations; a link that is followed before the login. Against a demo that keeps running:
//
//   PAGE_URL=http://127.0.0.1:PORT/ node check.mjs [PICTURE.png]
//
// Every expectation that is not met is told; the exit code is their number, at most 100.
import { createRequire } from "node:module";
import { readFileSync, existsSync } from "node:fs";
import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const BASE = (process.env.PAGE_URL ?? "").replace(/\/$/, "");
const PICTURE = process.argv[2];
const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const HOSTILE = ["<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "\u202Egnp.exe", "x".repeat(1500), "%00%ff", "' OR 1=1"];

let failures = 0;
let checks = 0;
function expect(holds, what) {
  checks += 1;
  if (!holds) {
    failures += 1;
    console.error(`NOT SO: ${what}`);
  }
}

async function person(browser, number, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const noises = [];
  page.on("console", (message) => message.type() === "error" && noises.push(message.text()));
  page.on("pageerror", (error) => noises.push(String(error)));
  page.noises = noises;
  await page.goto(`${BASE}/login`);
  await follow(page, () => page.locator("form.people button").nth(number).click());
  return page;
}

async function axe(page, where) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    const result = await window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] });
    return result.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(" ")).slice(0, 3).join("; ")}`);
  });
  expect(found.length === 0, `${where}: ${found.join(" | ")}`);
}

/** Does something that leads to another page, and waits for that page. */
async function follow(page, act) {
  await Promise.all([page.waitForEvent("framenavigated"), act()]);
  await page.waitForLoadState();
}

/** One invoice of a list. */
async function first(page, view, code) {
  await page.goto(`${BASE}/invoices?view=${view}${code ? `&code=${code}` : ""}`);
  const link = page.locator("tbody th a").first();
  return (await link.count()) ? new URL(await link.getAttribute("href"), BASE).pathname : undefined;
}

async function everyPage(browser) {
  const scout = await person(browser, 0);
  const priced = await first(scout, "needs-you", "PRICE_OVER_TOLERANCE");
  const paths = ["/", "/suppliers", "/lookups", "/month", "/help", "/help/PRICE_OVER_TOLERANCE", "/find?q=example", "/find?q=nothing-at-all", "/nowhere"];
  for (const view of ["needs-you", "waits", "working", "posted", "closed"]) {
    paths.push(`/invoices?view=${view}`);
    const one = await first(scout, view);
    if (one) paths.push(one);
  }
  if (priced) paths.push(priced, ...["release", "skip", "adopt", "ask-buyer"].map((act) => `${priced}/${act}`));
  expect(Boolean(priced), "the demo has an invoice whose price is over the tolerance");
  await scout.context().close();
  // A clerk, who is offered acts, and a controller, who is not. Each page is asked for once and then looked at in every light and
  // width: nothing in it depends on them but the style sheet.
  for (const number of [0, 2]) {
    const page = await person(browser, number);
    for (const path of paths) {
      page.noises.length = 0;
      const answer = await page.goto(`${BASE}${path}`);
      const what = `${path} (person ${number})`;
      expect((await page.locator("h1").count()) === 1, `${what} has one heading`);
      expect((await page.locator("main").innerText()).trim().length > 20, `${what} says something`);
      for (const colorScheme of ["light", "dark"]) {
        for (const width of [1280, 320]) {
          await page.emulateMedia({ colorScheme });
          await page.setViewportSize({ width, height: 900 });
          const where = `${path} (${colorScheme}, ${width}, person ${number})`;
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          expect(wide <= 0, `${where} scrolls sideways by ${wide}`);
          await axe(page, where);
        }
      }
      const own = page.noises.filter((text) => !(answer.status() >= 400 && text.includes("Failed to load resource")));
      expect(own.length === 0, `${what} complains: ${own.join(" | ")}`);
    }
    await page.context().close();
  }
}

async function linkBeforeLogin(browser, path) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${BASE}${path}`);
  expect(page.url().includes("/login"), "a link without a session leads to the login");
  await follow(page, () => page.locator("form.people button").first().click());
  expect(new URL(page.url()).pathname === path, `after the login it leads to ${path}, not ${page.url()}`);
  await context.close();
}

async function hostile(browser) {
  const page = await person(browser, 0);
  page.on("dialog", (dialog) => { expect(false, `a script ran: ${dialog.message()}`); dialog.dismiss(); });
  for (const text of HOSTILE) {
    const answer = await page.goto(`${BASE}/find?q=${encodeURIComponent(text)}`);
    expect(answer.status() < 500, `a search for ${text.slice(0, 20)} is answered ${answer.status()}`);
    expect((await page.locator("script, img").count()) === 0, "no markup of others is in the page");
  }
  const long = await page.goto(`${BASE}/find?q=${"x".repeat(10000)}`);
  expect([200, 400, 414].includes(long.status()), `10,000 letters are answered ${long.status()}`);
  await page.context().close();
}

/** The largest invoice that waits for its price: one above the limit of a single person. */
async function largest(page) {
  await page.goto(`${BASE}/invoices?view=needs-you&code=PRICE_OVER_TOLERANCE`);
  const rows = await page.locator("tbody tr").evaluateAll((all) => all.map((row) => ({
    path: row.querySelector("th a").getAttribute("href"),
    total: Number(row.querySelector("td[data-h=Total]").textContent.replace(/[^0-9.-]/g, "")),
  })));
  return rows.sort((one, two) => two.total - one.total)[0]?.path;
}

/** Tab until the focus is on what is looked for. */
async function tabTo(page, text) {
  for (let step = 0; step < 80; step += 1) {
    await page.keyboard.press("Tab");
    const focused = await page.evaluate(() => document.activeElement?.innerText?.trim() || document.activeElement?.id || "");
    if (focused.startsWith(text)) return true;
  }
  return false;
}

/** A release by keyboard alone: asked by the clerk, refused to the clerk as second person, confirmed by the approver. */
async function release(browser) {
  const clerk = await person(browser, 0);
  const path = await largest(clerk);
  if (!path) return;
  const approver = await person(browser, 1);
  // The approver has a form in sight that becomes stale by what the clerk does.
  await approver.goto(`${BASE}${path}/release`);
  await approver.fill("#reason", "agreed with the buyer by mail");
  const ask = async (page, reason) => {
    await page.goto(`${BASE}${path}`);
    expect(await tabTo(page, "Accept and release"), "the release is reached by keyboard");
    await follow(page, () => page.keyboard.press("Enter"));
    expect(await tabTo(page, "reason"), "the reason is reached by keyboard");
    await page.keyboard.type(reason);
    expect(await tabTo(page, "Go on"), "the button is reached by keyboard");
    await follow(page, () => page.keyboard.press("Enter"));
  };
  await ask(clerk, "price agreed with the buyer");
  expect(await tabTo(clerk, "Yes"), "the confirmation is reached by keyboard");
  await axe(clerk, "the confirmation");
  await follow(clerk, () => clerk.keyboard.press("Enter"));
  expect((await clerk.locator("main").innerText()).includes("another person must confirm"), "above the limit a second person is asked for");
  await follow(approver, () => approver.locator("button.main").click());
  expect((await approver.locator("main").innerText()).includes("has changed since you looked"), "a stale form is refused");
  await ask(clerk, "price agreed with the buyer");
  expect((await clerk.locator("main").innerText()).includes("an approver confirms it"), "the clerk is not the second person");
  await ask(approver, "agreed, seen the mail");
  expect(await tabTo(approver, "Yes"), "the approver confirms by keyboard");
  await follow(approver, () => approver.keyboard.press("Enter"));
  expect((await approver.locator("main").innerText()).includes("Released."), "two persons release it");
  await clerk.context().close();
  await approver.context().close();
}

async function signOff(browser) {
  const controller = await person(browser, 2);
  // A figure may move between the two pages; then the signature is refused, and asked for again.
  const signed = async () => (await controller.locator("ol.line li").count()) > 0;
  for (let tries = 0; tries < 5 && !(await signed()); tries += 1) {
    await controller.goto(`${BASE}/month`);
    await controller.fill("#reason", "agreed with the ledger");
    await follow(controller, () => controller.locator("main button.main").click());
    expect(!(await signed()), "a month is not signed before it is confirmed");
    await axe(controller, "the confirmation of the signature");
    await follow(controller, () => controller.locator("main button.main").click());
  }
  expect(await signed(), "the month is signed off with its note");
  await controller.context().close();
  const auditor = await person(browser, 3);
  const path = await first(auditor, "needs-you");
  if (path) {
    await auditor.goto(`${BASE}${path}`);
    expect((await auditor.locator(".actions").count()) === 0, "an auditor is offered no act");
    const answer = await auditor.goto(`${BASE}${path}/skip`);
    expect([403, 409].includes(answer.status()), `and is refused one: ${answer.status()}`);
  }
  await auditor.context().close();
}

/** A document that was keyed by hand is named by a clerk: told how a number is written, confirmed, and kept to be looked up. */
async function nameADocument(browser) {
  const clerk = await person(browser, 0);
  await clerk.goto(`${BASE}/invoices?view=needs-you`);
  const paths = await clerk.locator("tbody th a").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
  // Of some only the payments wait: those are in QAD.
  let path;
  for (const one of paths) {
    await clerk.goto(`${BASE}${one}`);
    if (await clerk.locator("a[href$='/adopt']").count()) { path = one; break; }
  }
  expect(Boolean(path), "an invoice of the demo waits without a document in QAD");
  if (!path) return;
  await clerk.goto(`${BASE}${path}/adopt`);
  await clerk.fill("#voucher", "999999");
  await clerk.fill("#reason", "keyed before the switch-on");
  await follow(clerk, () => clerk.locator("button.main").click());
  expect((await clerk.locator("main").innerText()).includes("year/daybook/number, as"), "a number that is none is told how it is written");
  await axe(clerk, "a document that is named in the wrong way");
  await clerk.fill("#voucher", "2026/SI/999999");
  await follow(clerk, () => clerk.locator("button.main").click());
  await axe(clerk, "the confirmation of a document that is named");
  await follow(clerk, () => clerk.locator("button.main").click());
  expect((await clerk.locator("main").innerText()).includes("is being looked up in QAD"), "a document that is named is being looked up");
  // Whether it is taken is match-invoice's to say, whose turn comes when it comes; its own tests look at that.
  await clerk.goto(`${BASE}${path}`);
  expect((await clerk.locator("main").innerText()).includes("2026/SI/999999"), "what was named stands on the invoice's page");
  await clerk.context().close();
}

/** A list that is looked at again as it was shown, and a plan that an approver allows. */
async function lists(browser) {
  const clerk = await person(browser, 0);
  await clerk.goto(`${BASE}/invoices?view=needs-you&code=PRICE_OVER_TOLERANCE`);
  await follow(clerk, () => clerk.locator("main form button").first().click());
  expect((await clerk.locator("main").innerText()).includes("are read from Coupa and QAD again"), "a list is shown with its sums first");
  await axe(clerk, "the confirmation of a list");
  await follow(clerk, () => clerk.locator("main button.main").click());
  expect((await clerk.locator("main").innerText()).includes("looked at again"), "and then looked at again");
  await clerk.goto(`${BASE}/lookups`);
  const plan = clerk.locator("main a[href*='/plans/allow']").first();
  const path = (await plan.count()) ? await plan.getAttribute("href") : undefined;
  await clerk.context().close();
  expect(Boolean(path), "the plan of a lookup waits for a person at the end of the demo's day");
  if (!path) return;
  const approver = await person(browser, 1);
  await approver.goto(`${BASE}${path}`);
  await axe(approver, "a plan that waits");
  await approver.fill("#reason", "read every change of it");
  await follow(approver, () => approver.locator("main button.main").click());
  await follow(approver, () => approver.locator("main button.main").click());
  expect((await approver.locator("main").innerText()).includes("Allowed."), "an approver allows a plan that waits");
  await approver.context().close();
}

const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
try {
  if (PICTURE) {
    const page = await person(browser, 0, { viewport: { width: 1120, height: 820 }, colorScheme: "light" });
    await page.goto(`${BASE}/`);
    await page.screenshot({ path: PICTURE });
    await page.context().close();
  }
  const scout = await person(browser, 0);
  const one = await first(scout, "posted");
  await scout.context().close();
  if (one) await linkBeforeLogin(browser, one);
  await hostile(browser);
  await everyPage(browser);
  await release(browser);
  await nameADocument(browser);
  await lists(browser);
  await signOff(browser);
} finally {
  await browser.close();
}
console.log(`${checks} checks, ${failures} not met`);
process.exit(Math.min(failures, 100));
