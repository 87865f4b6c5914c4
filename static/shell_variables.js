/* The variables that a shell command uses. Pure. It knows quotes, escapes, comments and
   here-documents, but does not run anything: what it finds is a suggestion. */

const EXPANSION = [
  String.raw`\$\$`, // the shell's own process ID, even before a name
  String.raw`\$(?<plain>[A-Za-z_]\w*)`,
  String.raw`\$\{[#!]?(?<braced>[A-Za-z_]\w*)(?:(?=(?<rest>[^}$]{0,200})\})|)`,
];
// The first that matches at a place is what is there.
const IN_QUOTES = [String.raw`\\[^]`, ...EXPANSION];
const IN_SHELL = [
  String.raw`\\[^]`,
  String.raw`\$'(?:\\[^]|[^'\\])*'|'[^']*'`, // nothing is expanded
  String.raw`"(?<quoted>(?:\\[^]|[^"\\])*)"`,
  String.raw`(?<=^|[\s;&|(])#.*`, // a comment
  String.raw`<<-?[ \t]*(?:(["'])(?<end>[\w.-]+)\1)[^\n]*\n[^]*?^\t*\k<end>$`, // nothing is expanded
  String.raw`<<-?[ \t]*(?<open>[\w.-]+)(?<line>[^\n]*)\n(?<body>[^]*?)^\t*\k<open>$`,
  ...EXPANSION,
];
const ASSIGNMENT = /(?:^|[\s;&|(])([A-Za-z_]\w*)\+?=(?!["']?\$\{?\1\b)/gm; // not A=${A:-b}
const LOOP = /\bfor\s+([A-Za-z_]\w*)/g;
const READ = /\bread((?:\s+-?\w+)+)/g;
const FALLBACK = /^:?[-=]([^$`"'\\]*)$/;

/** The variables that a command uses, in their order: { name, fallback, assigned }. `fallback` is
    the text in ${NAME:-text}, or null; `assigned` is true if the command itself sets the
    variable. */
export function findVariables(text) {
  const found = new Map();
  scan(text, IN_SHELL, found);
  const assigned = assignedNames(text);
  return [...found].map(([name, fallback]) => ({ name, fallback, assigned: assigned.has(name) }));
}

function scan(text, tokens, found) {
  for (const { groups } of text.matchAll(new RegExp(tokens.join("|"), "gm"))) {
    const { quoted, line, body, plain, braced, rest } = groups;
    const name = plain ?? braced;
    if (name && !found.has(name)) {
      found.set(name, FALLBACK.exec(rest ?? "")?.[1] ?? null);
    }
    scan(line ?? "", IN_SHELL, found);
    scan(quoted ?? body ?? "", IN_QUOTES, found);
  }
}

function assignedNames(text) {
  const names = [...text.matchAll(ASSIGNMENT), ...text.matchAll(LOOP)].map(([, name]) => name);
  const read = [...text.matchAll(READ)].flatMap(([, words]) => words.trim().split(/\s+/));
  return new Set([...names, ...read]);
}

/** The name that is being typed at the end of a text, as in "echo $VERS"; "" if there is none. */
export function unfinishedName(text) {
  return /\$\{?([A-Za-z_]\w*)$/.exec(text)?.[1] ?? "";
}
