// Search works in a worker, which browsers refuse to pages from the disk: there a hidden frame
// does a worker's work. The theme looks for the name IFrameWorker.
class IFrameWorker extends EventTarget {
  constructor(url) {
    super();
    const frame = document.createElement("iframe");
    frame.hidden = true;
    document.body.append(frame);
    this.inside = frame.contentWindow;
    this.inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", {data}));
    this.loaded = new Promise(done => {
      const script = this.inside.document.createElement("script");
      script.onload = done;
      script.src = url;
      this.inside.document.body.append(script);
    });
  }

  postMessage(data) {
    this.loaded.then(() => this.inside.dispatchEvent(new MessageEvent("message", {data})));
  }
}
if (location.protocol === "file:") window.Worker = window.IFrameWorker = IFrameWorker;
