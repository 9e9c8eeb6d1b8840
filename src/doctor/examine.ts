/** `doctor`: looks at the host and judges it. */
import { gatherFacts } from "./gather.ts";
import { judge, type Report } from "./report.ts";

/**
 * @param root directory of container state
 * @param here absolute path of the current directory
 */
export async function examineHost(root: string, here: string): Promise<Report> {
  return judge(await gatherFacts(root, here));
}
