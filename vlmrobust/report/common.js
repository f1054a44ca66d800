"use strict";

// Text goes into the page as text nodes alone: what a model wrote is never read as markup.
function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

const byId = (id) => document.getElementById(id);

// --- tables -----------------------------------------------------------------------------------------------------------

function compare(first, second) {
  const numbers = [Number(first), Number(second)];
  return numbers.some(Number.isNaN) ? first.localeCompare(second, undefined, { numeric: true }) : numbers[0] - numbers[1];
}

function sortTable(table, header) {
  const column = [...header.parentNode.children].indexOf(header);
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentNode.children) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const key = (row) => row.children[column].dataset.sort;
  const rows = [...table.tBodies[0].rows];
  rows.sort((first, second) => {
    const [one, two] = [key(first), key(second)];
    // What is undefined comes last in either direction.
    if (one === "" || two === "") return (one === "") - (two === "");
    return descending ? compare(two, one) : compare(one, two);
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table")) {
  for (const header of table.querySelectorAll("thead th")) {
    header.firstElementChild.addEventListener("click", () => sortTable(table, header));
  }
}
