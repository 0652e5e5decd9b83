"use strict";
// Shows two panels of a side-by-side video over each other, divided at a line that the reader moves.
// Both come from one frame of one video, so that they can never be out of step.

class Player {
  constructor(figure, index) {
    this.video = figure.querySelector("video");
    this.panels = this.video.dataset.panels.split("|");
    this.rate = Number(this.video.dataset.rate);
    this.shown = [0, 1];
    this.split = 0.5;
    this.key = `player ${index}`;
    this.canvas = document.createElement("canvas");
    figure.prepend(this.canvas, this.makeControls());
    figure.classList.add("ready");
    this.video.controls = false;
    this.video.loop = true;
    this.canvas.onpointerdown = event => {
      this.canvas.setPointerCapture(event.pointerId);
      this.canvas.onpointermove = move => this.moveSplit(move);
      this.moveSplit(event);
    };
    this.canvas.onpointerup = () => (this.canvas.onpointermove = null);
    for (const event of ["loadeddata", "seeked"]) this.video.addEventListener(event, () => this.draw());
    if (this.video.readyState >= 2) this.draw();
    this.drawEachFrame();
  }

  // A seek may end before its frame can be drawn: browsers that tell when a frame is there draw it then.
  drawEachFrame() {
    this.video.requestVideoFrameCallback?.(() => {
      this.draw();
      this.drawEachFrame();
    });
  }

  makeControls() {
    const controls = document.createElement("div");
    controls.className = "controls";
    this.playButton = document.createElement("button");
    this.playButton.textContent = "play";
    this.playButton.onclick = () => this.togglePlay();
    this.time = document.createElement("input");
    Object.assign(this.time, { type: "range", min: 0, value: 0, step: 1, title: "frame" });
    this.time.oninput = () => {
      this.video.currentTime = (Number(this.time.value) + 0.5) / this.rate;
    };
    this.clock = document.createElement("span");
    controls.append(this.playButton, this.time, this.clock);
    if (this.panels.length > 2) controls.prepend(this.makeChoice(0), this.makeChoice(1));
    return controls;
  }

  makeChoice(side) {
    const choice = document.createElement("select");
    choice.title = side ? "right of the line" : "left of the line";
    choice.append(...this.panels.map((name, index) => new Option(name, index)));
    choice.value = this.shown[side];
    choice.onchange = () => {
      this.shown[side] = Number(choice.value);
      this.draw();
    };
    return choice;
  }

  togglePlay() {
    this.video.paused ? this.video.play() : this.video.pause();
    this.playButton.textContent = this.video.paused ? "play" : "pause";
    busy.set(this.key, this.video.paused ? "" : "a video is playing");
    const step = () => {
      this.draw();
      if (!this.video.paused) requestAnimationFrame(step);
    };
    step();
  }

  moveSplit(event) {
    const box = this.canvas.getBoundingClientRect();
    this.split = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    this.draw();
  }

  draw() {
    const { video, canvas } = this;
    const width = video.videoWidth / this.panels.length, height = video.videoHeight;
    if (!width) return;
    if (canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height });
      canvas.style.maxWidth = `calc(75vh * ${width / height})`; // the controls stay in view
    }
    this.time.max = Math.max(0, Math.round(video.duration * this.rate) - 1);
    this.time.value = Math.floor(video.currentTime * this.rate + 1e-3);
    this.clock.textContent = `${video.currentTime.toFixed(2)} s`;
    const context = canvas.getContext("2d");
    const left = Math.round(width * this.split), right = width - left;
    const [before, after] = this.shown.map(panel => panel * width);
    if (left) context.drawImage(video, before, 0, left, height, 0, 0, left, height);
    if (right) context.drawImage(video, after + left, 0, right, height, left, 0, right, height);
    context.fillStyle = "#fff";
    context.fillRect(left - 1, 0, 2, height);
    this.drawName(context, this.panels[this.shown[0]], 8, "left");
    this.drawName(context, this.panels[this.shown[1]], width - 8, "right");
  }

  drawName(context, name, x, side) {
    context.font = `${Math.max(11, Math.round(this.canvas.height / 24))}px system-ui, sans-serif`;
    Object.assign(context, { textAlign: side, textBaseline: "top", lineWidth: 3, lineJoin: "round" });
    context.strokeStyle = "#000a";
    context.strokeText(name, x, 8);
    context.fillText(name, x, 8);
  }
}

const players = [...document.querySelectorAll(".player")].map((one, index) => new Player(one, index));
