/** --regex of `kill` and `delete`, as crun has it: a call for every container whose id matches. Loaded only for it. */
import { listContainers } from "../container/list.ts";
import type { Log } from "../container/types.ts";
import { BuncError, renderError } from "../errors.ts";
import { quote } from "./go.ts";

/**
 * Calls `act` with the id of each container below a root that the expression matches anywhere. What fails for one is
 * logged as a warning and does not keep it from the others; none to match is no error.
 *
 * @param list tests put their own in
 * @throws BuncError for what is no regular expression, and for a root that cannot be read
 */
export async function forMatching(
  expression: string,
  { root, log }: { root: string; log: Log },
  act: (id: string) => void | Promise<void>,
  list: (
    root: string,
  ) => { containers: { id: string }[] } | Promise<{ containers: { id: string }[] }> = listContainers,
): Promise<void> {
  let pattern: RegExp;
  try {
    pattern = new RegExp(expression);
  } catch (error) {
    throw new BuncError(`invalid regular expression ${quote(expression)}`, {
      code: "usage",
      hint: error instanceof Error ? error.message : String(error),
    });
  }
  for (const { id } of (await list(root)).containers) {
    if (!pattern.test(id)) continue;
    try {
      await act(id);
    } catch (error) {
      if (!(error instanceof BuncError)) throw error;
      log.warn(`${id}: ${renderError(error)}`);
    }
  }
}
