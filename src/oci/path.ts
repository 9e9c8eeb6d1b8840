/** Words for messages about config.json: the path of a value in it, and the value itself, short. */

/** Adds a key or an index to a path: `linux.sysctl["net.ipv4.ip_forward"]`, quoted unless it is a plain name. */
export function joinPath(path: string, key: string | number): string {
  if (typeof key === "number") return `${path}[${key}]`;
  if (!/^[A-Za-z_][A-Za-z0-9_-]*$/.test(key)) return `${path}[${shown(key)}]`;
  return path === "" ? key : `${path}.${key}`;
}

/** What a value is: quoted and cut when it is a string, named when it has parts. Never more than one line. */
export function shown(value: unknown): string {
  if (typeof value === "string")
    return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return "an object";
  const text = String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
