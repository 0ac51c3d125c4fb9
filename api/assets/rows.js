// The rows of a list or a table. They are kept, and only what changed is written: in rows in sight with each update, in the
// others by turns, a few with each.

const OTHERS = 20; // rows out of sight that are written with an update

// `id`: what names the thing that a row shows. `make`: the row of a new thing, with its element `item`. `fill`: writes what
// `row.thing` says; `row.inSight` says whether anybody sees it. `version`: a row is written at once when this changes.
export function rows({ id, make, fill, version = () => 0 }) {
  const kept = new Map(), of = new WeakMap();
  let shown = [], turn = 0;
  const sight = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      const row = of.get(target);
      row.inSight = isIntersecting;
      if (isIntersecting) fill(row);
    }
  }, { rootMargin: "200px", scrollMargin: "200px" });

  function row(thing) {
    let row = kept.get(id(thing));
    if (!row) {
      row = make(thing);
      kept.set(id(thing), row);
      of.set(row.item, row);
      sight.observe(row.item);
    }
    row.thing = thing;
    return row;
  }

  function forget() {
    const alive = new Set(shown);
    for (const [key, row] of kept) if (!alive.has(row)) { sight.unobserve(row.item); kept.delete(key); }
  }

  return (body, things) => {
    const now = things.map(row), others = [];
    for (const row of now) {
      const known = version(row.thing);
      if (row.inSight || row.version !== known) fill(row); else others.push(row);
      row.version = known;
    }
    for (let n = Math.min(OTHERS, others.length); n > 0; n--) fill(others[turn++ % others.length]);
    if (now.length === shown.length && now.every((row, i) => row === shown[i])) return;
    shown = now;
    place(body, now.map((row) => row.item));
    if (kept.size > 2 * things.length + 100) forget();
  };
}

// Moves only what has another place. What had the focus has it afterwards.
function place(body, items) {
  const focused = document.activeElement, wanted = new Set(items);
  for (const child of [...body.children]) if (!wanted.has(child)) child.remove();
  let at = body.firstElementChild;
  for (const item of items) {
    if (item === at) at = at.nextElementSibling;
    else body.insertBefore(item, at);
  }
  if (focused !== document.activeElement && focused?.isConnected) focused.focus();
}
