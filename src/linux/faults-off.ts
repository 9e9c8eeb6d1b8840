/** An ordinary build injects no faults. */
export const faults = false;
