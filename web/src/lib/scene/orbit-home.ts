// Where the camera starts.
import type { Camera } from './view';

export const HOME: Camera = { azimuth: -28, elevation: 40, distance: 1, target: [0, 0], top: false };
