// CT and targets in NiiVue, or the endpoint's own picture where it cannot be: not built, no WebGL, another format.

export const COLOURS = ["red", "green", "blue", "warm", "cool"];

export class Viewer {
  #viewer = null;

  constructor(frame, canvas, picture) {
    Object.assign(this, { frame, canvas, picture });
  }

  clear() {
    this.frame.hidden = this.picture.hidden = true;
    this.picture.removeAttribute("src");
  }

  // `results`: {url, shown, centre} in the order in which they were made.
  async draw(files, results) {
    try {
      if (files.length !== 1 || !/\.(nii|nii\.gz|nrrd|mha)$/i.test(files[0].name)) {
        throw new Error("the viewer reads NIfTI, NRRD and MHA");
      }
      if (!this.#viewer) await this.#start();
      const volumes = [{ url: URL.createObjectURL(files[0]), name: files[0].name, cal_min: -160, cal_max: 240 }];
      results.forEach(({ url, shown }, number) => {
        const colormap = COLOURS[number % COLOURS.length];
        if (shown) volumes.push({ url, name: `target-${number}.nii.gz`, colormap, opacity: 0.45, cal_min: 0.5, cal_max: 1 });
      });
      this.frame.hidden = false;
      await this.#viewer.loadVolumes(volumes);
      const centre = results.findLast(({ shown }) => shown)?.centre;
      if (centre) this.#viewer.scene.crosshairPos = this.#viewer.mm2frac(centre);
      this.#viewer.drawScene();
      this.frame.dataset.shown = results.filter(({ shown }) => shown).length; // what a test can see
      this.picture.hidden = true;
    } catch (error) {
      console.info(`no viewer: ${error.message}`);
      this.frame.hidden = true;
      this.picture.hidden = !this.picture.src;
    }
  }

  async #start() {
    const { Niivue } = await import("./niivue.js");
    const viewer = new Niivue({
      show3Dcrosshair: true, backColor: [0, 0, 0, 1], crosshairWidth: 0.5, crosshairColor: [1, 0.85, 0.2, 0.7],
      isRadiologicalConvention: true, // as on every workstation: the patient's right is on the left
    });
    this.frame.hidden = false; // a canvas without a size cannot be attached
    await viewer.attachToCanvas(this.canvas);
    viewer.setSliceType(viewer.sliceTypeMultiplanar);
    viewer.setMultiplanarLayout(2);
    this.#viewer = viewer;
  }
}
