/**
 * Columns of text as Go's text/tabwriter lays them out: every column as wide as its widest cell plus padding,
 * the last cell of a line as it is.
 */

/**
 * Formats rows of cells; every row has the same number of cells.
 * @param minimum least width of a column, in characters
 * @param padding spaces after the widest cell of a column
 */
export function formatColumns(
  rows: readonly (readonly string[])[],
  minimum: number,
  padding: number,
): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (let i = 0; i < row.length - 1; i += 1) {
      widths[i] = Math.max(widths[i] ?? minimum, countOf(row[i] as string) + padding);
    }
  }
  let text = "";
  for (const row of rows) {
    for (let i = 0; i < row.length - 1; i += 1) {
      const cell = row[i] as string;
      text += cell + " ".repeat((widths[i] as number) - countOf(cell));
    }
    text += `${row[row.length - 1] ?? ""}\n`;
  }
  return text;
}

/**
 * A cell that cannot break the table or the terminal: control characters, which a bundle's path may hold, are
 * shown as \xNN.
 */
export function printable(text: string): string {
  return text.replace(
    /[\x00-\x1f\x7f-\x9f]/g,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

/** Characters as Go counts them: code points, not UTF-16 units. */
function countOf(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}
