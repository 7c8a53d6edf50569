/**
 * Makes a small website of README, docs/ and the other pages, as plain files: HTML without a script, which any web server
 * or a browser on the disk shows.
 *
 *     deno task docs [DIRECTORY]
 *     deno task docs --check          writes nothing
 *
 * The exit status is 1 if a link of a page leads to nothing.
 *
 * @module
 */

import { exists } from "../test/kernels/exists.ts";
// deno-lint-ignore no-import-prefix
import { Marked, type Token } from "npm:marked@16.4.1";

const project = new URL("..", import.meta.url).pathname;

/** The pages, in the order of the navigation. */
const groups: Record<string, readonly string[]> = {
  "": ["README.md"],
  "Mounting": [
    "docs/rootfs.md",
    "docs/options.md",
    "docs/image.md",
    "docs/sharing.md",
    "docs/replace.md",
    "docs/namespace.md",
    "docs/table.md",
    "docs/cleanup.md",
  ],
  "Sandboxes": ["docs/sandbox.md", "docs/sandbox_changes.md", "docs/agents.md", "docs/testing.md"],
  "Containers": ["docs/manager.md", "docs/container.md", "docs/containerd.md", "docs/node.md"],
  "Use": ["docs/one_file.md", "docs/privileges.md"],
  "The project": [
    "SECURITY.md",
    "docs/trust.md",
    "bench/README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
  ],
};

/** A page, read. */
interface Page {
  readonly path: string;
  readonly title: string;
  readonly body: string;
  /** The ids of its headings. */
  readonly ids: ReadonlySet<string>;
  readonly links: readonly string[];
}

const escape = (text: string) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

/** The id of a heading, as the forges make it. */
function slug(text: string): string {
  return text.toLowerCase().replace(/<[^>]*>/g, "").replace(/[^\p{L}\p{N} _-]/gu, "").trim().replaceAll(
    " ",
    "-",
  );
}

function htmlPath(path: string): string {
  return path === "README.md" ? "index.html" : path.replace(/\.md$/, ".html");
}

/** A relative link of a page as a path of the project; undefined for one that leads elsewhere. */
function linkedPath(from: string, href: string): string | undefined {
  if (/^[a-z]+:/.test(href)) return undefined;
  const url = new URL(href, `file:///${from}`);
  return decodeURIComponent(url.pathname.slice(1));
}

function read(path: string): Page {
  const ids = new Set<string>();
  const links: string[] = [];
  const marked = new Marked({
    gfm: true,
    walkTokens(token: Token) {
      if (token.type === "link" || token.type === "image") {
        links.push(token.href);
        token.href = token.href.replace(/^([^:#]*?)README\.md/, (text: string, folder: string) => {
          return linkedPath(path, text) === "README.md" ? `${folder}index.html` : `${folder}README.html`;
        }).replace(/^([^:#]+)\.md\b/, "$1.html");
      }
    },
    renderer: {
      heading({ tokens, depth }) {
        const text = this.parser.parseInline(tokens);
        const id = slug(text);
        ids.add(id);
        return `<h${depth} id="${id}"><a href="#${id}">${text}</a></h${depth}>\n`;
      },
      table(token) {
        const row = (cells: typeof token.header, tag: string) =>
          `<tr>${
            cells.map((cell) =>
              `<${tag}${cell.align ? ` class="${cell.align}"` : ""}>${
                this.parser.parseInline(cell.tokens)
              }</${tag}>`
            ).join("")
          }</tr>\n`;
        const body = token.rows.map((cells) => row(cells, "td")).join("");
        return `<div class="wide"><table><thead>${
          row(token.header, "th")
        }</thead><tbody>${body}</tbody></table></div>\n`;
      },
    },
  });
  const text = Deno.readTextFileSync(`${project}${path}`);
  const body = marked.parse(text, { async: false });
  return { path, title: /^# (.*)$/m.exec(text)?.[1] ?? path, body, ids, links };
}

function navigation(pages: ReadonlyMap<string, Page>, current: string): string {
  const up = "../".repeat(current.split("/").length - 1);
  return Object.entries(groups).map(([group, paths]) => {
    const items = paths.flatMap((path) => {
      const page = pages.get(path);
      if (page === undefined) return [];
      const here = path === current ? ' aria-current="page"' : "";
      return [`<li><a href="${up}${htmlPath(path)}"${here}>${escape(page.title)}</a></li>`];
    });
    return items.length === 0 ? "" : `${group && `<h2>${group}</h2>`}<ul>${items.join("")}</ul>`;
  }).join("\n");
}

const STYLE = `
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: light-dark(#0a6a8a, #6cc5e6); }
* { box-sizing: border-box }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; display: grid; grid-template-columns: 16rem minmax(0, 1fr) }
nav { padding: 1.2rem; border-right: 1px solid var(--line); font-size: .92rem }
nav h2 { font-size: .8rem; letter-spacing: .04em; margin: 1.1rem 0 .2rem; opacity: .7 }
nav ul { list-style: none; margin: 0; padding: 0 }
nav a { display: block; padding: .16rem 0; text-decoration: none }
nav a[aria-current] { font-weight: 600; color: inherit }
main { padding: 1.2rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 60rem }
a { color: var(--link) }
.pages { display: none }
h1 a, h2 a, h3 a { color: inherit; text-decoration: none }
h1 { line-height: 1.2 } h2 { margin-top: 2.2rem }
code { font: .88em ui-monospace, monospace; background: var(--soft); padding: .1em .25em; border-radius: .25em;
  overflow-wrap: anywhere }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: .4rem; padding: .8rem; overflow-x: auto }
pre code { background: none; padding: 0; overflow-wrap: normal }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem }
th, td { border: 1px solid var(--line); padding: .3rem .6rem; text-align: left; vertical-align: top; min-width: 5rem }
.right { text-align: right; white-space: nowrap }
img { max-width: 100%; height: auto; background: #fff }
@media (max-width: 50rem) {
  body { display: flex; flex-direction: column }
  nav { order: 2; border: 0; border-top: 1px solid var(--line) }
  .pages { display: block }
  nav a { padding: .3rem 0 }
}
`;

function html(page: Page, pages: ReadonlyMap<string, Page>): string {
  const title = page.path === "README.md" ? "denomount" : `${page.title} · denomount`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<nav id="pages">${navigation(pages, page.path)}</nav>
<main>
<a class="pages" href="#pages">All pages</a>
${page.body}
</main>
</body>
</html>
`;
}

/** The links of a page that lead to no file of the project, or to no heading of its page. */
function broken(page: Page, pages: ReadonlyMap<string, Page>, files: Set<string>): string[] {
  return page.links.flatMap((href) => {
    const path = linkedPath(page.path, href);
    if (path === undefined) return [];
    const fragment = href.split("#")[1];
    const linked = pages.get(path);
    if (linked) return fragment === undefined || linked.ids.has(fragment) ? [] : [href];
    try {
      if (Deno.statSync(`${project}${path}`).isFile) files.add(path);
      return [];
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [href];
      throw error;
    }
  });
}

/**
 * Writes the site.
 *
 * @param directory where; it is made if it is missing.
 * @returns the links that lead to nothing, with their pages.
 */
export function writeSite(directory: string): string[] {
  const paths = Object.values(groups).flat().filter((path) => exists(`${project}${path}`));
  const pages = new Map(paths.map((path) => [path, read(path)]));
  const files = new Set<string>();
  const errors = [...pages.values()].flatMap((page) =>
    broken(page, pages, files).map((href) => `${page.path}: ${href} leads to nothing`)
  );
  for (const { name } of Deno.readDirSync(`${project}docs`)) {
    if (name.endsWith(".md") && !pages.has(`docs/${name}`)) errors.push(`docs/${name} is in no group`);
  }
  const write = (path: string, content: Uint8Array<ArrayBuffer> | string) => {
    Deno.mkdirSync(`${directory}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    if (typeof content === "string") Deno.writeTextFileSync(`${directory}/${path}`, content);
    else Deno.writeFileSync(`${directory}/${path}`, content);
  };
  for (const page of pages.values()) write(htmlPath(page.path), html(page, pages));
  for (const path of files) write(path, Deno.readFileSync(`${project}${path}`));
  return errors;
}

if (import.meta.main) {
  const [word = `${project}site`] = Deno.args;
  const isCheck = word === "--check";
  const directory = isCheck ? Deno.makeTempDirSync() : word;
  const errors = writeSite(directory);
  if (isCheck) Deno.removeSync(directory, { recursive: true });
  for (const error of errors) console.error(error);
  console.log(isCheck ? `${errors.length} links that lead to nothing` : `${directory}/index.html`);
  Deno.exit(errors.length > 0 ? 1 : 0);
}
