import { expect, test } from "bun:test";
import { formatState } from "./state.ts";

test("a state has the fields of the specification in their order, absent ones left out", () => {
  const state = { status: "created", pid: 5, id: "a", ociVersion: "1.3.0", bundle: "/b" } as const;
  expect(formatState(state)).toBe('{"ociVersion":"1.3.0","id":"a","status":"created","pid":5,"bundle":"/b"}');
  expect(formatState({ ...state, annotations: { "a.b": "\n" } })).toBe(
    '{"ociVersion":"1.3.0","id":"a","status":"created","pid":5,"bundle":"/b","annotations":{"a.b":"\\n"}}',
  );
});
