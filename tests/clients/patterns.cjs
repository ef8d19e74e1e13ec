// Every regular expression of the document, as browsers and generated clients compile it.
const assert = require("node:assert/strict");
const document = require("./openapi.json");

const patterns = new Set();
JSON.stringify(document, (name, value) => {
  if (name === "pattern" && typeof value === "string") patterns.add(value);
  return value;
});
assert(patterns.size >= 5);
for (const flags of ["", "u", "v"]) {
  for (const pattern of patterns) new RegExp(pattern, flags);
  const { title } = document.components.schemas.TaskCreate.properties;
  const isTitle = new RegExp(title.pattern, flags);
  for (const text of ["x", " x ", "🎉", "عنوان", "two\nlines"]) assert(isTitle.test(text), text);
  for (const text of ["", " ", "\t\n", "\u3000\ufeff", "x\0", "\0"]) assert(!isTitle.test(text));
}
