// Preloaded (`node --import`): the wall clock is NIGHTSHIFT_CLOCK_SHIFT_MS off, as on a machine whose NTP has failed.
const shift = Number(process.env["NIGHTSHIFT_CLOCK_SHIFT_MS"] ?? 0);
const RealDate = Date;

class ShiftedDate extends RealDate {
  constructor(...args: unknown[]) {
    if (args.length === 0) super(RealDate.now() + shift);
    else super(...(args as [number]));
  }

  static override now(): number {
    return RealDate.now() + shift;
  }
}

globalThis.Date = ShiftedDate as DateConstructor;
