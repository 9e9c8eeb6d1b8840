/**
 * What the time limits of the rig are multiplied by: BUNC_TEST_PATIENCE, 1 without it. They tell what hangs from what
 * ends; on an emulated machine, or one that others use as well, what ends takes longer.
 */
export const patience = Number(process.env.BUNC_TEST_PATIENCE) || 1;
