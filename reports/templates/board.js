"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ---- what a large page has put away (reports/packing.py); everything else waits for it

  const unpack = async (node) => {
    try {
      const bytes = Uint8Array.from(atob(node.textContent), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const template = document.createElement("template");
      template.innerHTML = await new Response(stream).text();
      node.replaceWith(template.content);
    } catch {
      node.replaceWith("This browser cannot unpack what is here. Scores are in leaderboard.csv, the rest in the run records.");
    }
  };

  const start = () => {
  // ---- tables: a click on a column head sorts; what is missing comes last either way

  const cellValue = (row, index) => {
    const cell = row.cells[index];
    if (!cell) return null;
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    const words = cell.textContent.trim();
    if (cell.classList.contains("num")) {
      const number = Number(words.replaceAll(",", "").replace("−", "-"));
      return words === "" || Number.isNaN(number) ? null : number;
    }
    return words === "" ? null : words;
  };

  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number"
      ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true, sensitivity: "base" });

  // The rows of a table that move: its body's rows, or whole bodies where a run and its details belong together.
  const movable = (table) =>
    table.tBodies.length > 1
      ? [...table.tBodies].map((body) => ({ node: body, row: body.rows[0] }))
      : [...table.tBodies[0].rows].map((row) => ({ node: row, row }));

  const sortBy = (header, direction) => {
    const table = header.closest("table");
    const index = header.cellIndex;
    const sign = direction === "ascending" ? 1 : -1;
    const rows = movable(table).map((each, place) => ({ ...each, place, value: cellValue(each.row, index) }));
    rows.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.place - b.place;
      return sign * compare(a.value, b.value) || a.place - b.place;
    });
    const parent = rows.length ? rows[0].node.parentNode : null;
    rows.forEach(({ node }) => parent.append(node));
    all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", direction);
    if (header.classList.contains("metric")) showRanks(table, index);
  };

  // The rank column follows the number that the table was last sorted by.
  const showRanks = (table, index) => {
    for (const row of table.tBodies[0].rows) {
      const rank = row.cells[index].dataset.rank;
      const cell = row.cells[0];
      cell.textContent = rank ?? "–";
      if (rank === undefined) delete cell.dataset.v;
      else cell.dataset.v = rank;
    }
  };

  const firstDirection = (header) => (header.dataset.first === "desc" ? "descending" : "ascending");

  all("table.sortable thead th").forEach((header) => {
    header.querySelector("button")?.addEventListener("click", () => {
      const now = header.getAttribute("aria-sort");
      const other = now === "ascending" ? "descending" : "ascending";
      sortBy(header, now ? other : firstDirection(header));
    });
  });

  // ---- heads: show the columns and figures of one head, and rank by it

  all(".heads").forEach((group) => {
    const section = group.closest("section");
    // A method's own head (an SVM on expression) has no button, and stays in sight beside every head.
    const heads = new Set(all("button", group).map((button) => button.dataset.pick));
    all("button", group).forEach((button) =>
      button.addEventListener("click", () => {
        const head = button.dataset.pick;
        all("button", group).forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        all("[data-head]", section).forEach((node) =>
          node.classList.toggle("off-head", head !== "" && node.dataset.head !== head && heads.has(node.dataset.head)));
        all("details.more", section).forEach((each) => { each.open = head !== ""; });
        all("table.ranked", section).forEach((table) => {
          const metrics = all("th.metric", table);
          const shown = metrics.find((header) => header.dataset.head === head) ?? metrics[0];
          if (shown) sortBy(shown, firstDirection(shown));
        });
      }));
  });

  // ---- filter: words and tracks

  const box = document.getElementById("filter");
  const filter = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const off = new Set(all(".chip[data-chip][aria-pressed=false]").map((chip) => chip.dataset.chip));
    const unseen = new Set(all(".chip[data-seen-chip][aria-pressed=false]").map((chip) => chip.dataset.seenChip));
    all("table.sortable tbody tr[data-track], table.sortable tfoot tr, #runs tbody[data-track], .panel").forEach((node) => {
      const said = (node.textContent + " " + node.dataset.track).toLowerCase();
      const bounds = node.parentNode.tagName === "TFOOT"; // floor and ceiling belong to whatever rows are left
      const match = !off.has(node.dataset.track) && !unseen.has(node.dataset.seen) &&
        (bounds || words.every((word) => said.includes(word)));
      node.classList.toggle("off-filter", !match);
    });
    all(".board").forEach((board) => {
      const several = all(".board", board.parentNode).length > 1 || off.size === 0;
      board.classList.toggle("off-filter", several && off.has(board.dataset.track) && off.size > 0);
    });
  };
  box.addEventListener("input", filter);
  all(".chip[data-chip], .chip[data-seen-chip]").forEach((chip) =>
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
      filter();
    }));

  const scale = document.getElementById("scale");
  scale?.addEventListener("click", () => {
    const on = scale.getAttribute("aria-pressed") !== "true";
    scale.setAttribute("aria-pressed", String(on));
    document.body.classList.toggle("raw", !on);
  });

  // ---- runs: open a row, copy its command

  all("button.open").forEach((button) =>
    button.addEventListener("click", () => {
      const detail = document.getElementById(button.getAttribute("aria-controls"));
      detail.hidden = !detail.hidden;
      button.setAttribute("aria-expanded", String(!detail.hidden));
    }));

  const copyOldWay = (words) => {
    const field = document.createElement("textarea");
    field.value = words;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  };
  all("button.copy").forEach((button) =>
    button.addEventListener("click", async () => {
      const words = button.parentNode.querySelector("code").textContent;
      try {
        await navigator.clipboard.writeText(words);
      } catch {
        copyOldWay(words);
      }
      button.textContent = "copied";
      setTimeout(() => (button.textContent = "copy"), 1500);
    }));

  all("a[href^='#environment-']").forEach((link) =>
    link.addEventListener("click", () => {
      document.getElementById(link.getAttribute("href").slice(1)).closest("details").open = true;
    }));

  // ---- UMAPs: a name in a legend lights its cells in every picture of that colouring

  all(".legend").forEach((legend) => {
    const pictures = all(`.pictures > [data-by="${legend.dataset.by}"]`, legend.closest(".atlas"));
    const light = (name) =>
      pictures.forEach((picture) => {
        picture.classList.toggle("dimmed", name !== null);
        all(".umap path", picture).forEach((path) =>
          path.classList.toggle("lit", name !== null && path.querySelector("title").textContent === name));
      });
    const pressed = () => legend.querySelector("button[aria-pressed=true]")?.dataset.name ?? null;
    all("button", legend).forEach((button) => {
      const on = () => light(button.dataset.name);
      const back = () => light(pressed());
      button.addEventListener("mouseenter", on);
      button.addEventListener("focus", on);
      button.addEventListener("mouseleave", back);
      button.addEventListener("blur", back);
      button.addEventListener("click", () => {
        const was = button.getAttribute("aria-pressed") === "true";
        all("button", legend).forEach((other) => other.setAttribute("aria-pressed", "false"));
        button.setAttribute("aria-pressed", String(!was));
        light(pressed());
      });
    });
  });

  // ---- print everything
  addEventListener("beforeprint", () => all("details").forEach((each) => (each.open = true)));
  };

  const packed = all("script[data-packed]");
  if (packed.length === 0) start();
  else Promise.all(packed.map(unpack)).then(start).then(() => { document.body.dataset.unpacked = "true"; });
})();
