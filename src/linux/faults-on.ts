/** The build for test/fault. */
export const faults = true;
