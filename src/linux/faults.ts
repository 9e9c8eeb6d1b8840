/**
 * Fault injection: see faults-on.ts, which only the executable for test/fault has (`--conditions=faults`). In an
 * ordinary build the library ignores the header field, and nothing reads the environment.
 */
export { faultOf, faults, sysFault } from "#faults";
