// The page's elements; the script fills what has an id.

export const PAGE_BODY = `<header>
  <div class="brand">
    <svg viewBox="0 0 32 32" width="30" height="30" aria-hidden="true">
      <circle cx="16" cy="16" r="10"/><circle cx="16" cy="16" r="2.5"/>
      <path d="M16 1v30M1 16h30M5.4 5.4l21.2 21.2M26.6 5.4 5.4 26.6"/>
    </svg>
    <h1>Millrace edge <span id="gateway"></span></h1>
  </div>
  <p class="state"><span id="health" class="pill" role="status">loading</span> <span id="clock" class="faint"></span></p>
</header>
<main>
  <noscript><p class="problem">This page needs JavaScript; the same facts are at <a href="/health">/health</a>.</p></noscript>
  <ul id="problems" class="problems" aria-label="Problems" aria-live="polite"></ul>

  <section class="cards" aria-label="Figures">
    <article>
      <h2>Backlog</h2>
      <p class="figure"><b id="backlog-records">–</b> records wait</p>
      <dl>
        <div><dt>Bytes</dt><dd id="backlog-bytes">–</dd></div>
        <div><dt>Oldest waits for</dt><dd id="backlog-oldest">–</dd></div>
        <div><dt>Drained in</dt><dd id="to-drain">–</dd></div>
      </dl>
    </article>
    <article>
      <h2>Flow</h2>
      <p class="figure"><b id="rate-in">–</b> records/s in</p>
      <svg id="spark" viewBox="0 0 240 44" preserveAspectRatio="none" role="img" aria-label="Records per second, the last minutes">
        <polyline id="spark-in"/><polyline id="spark-out"/>
      </svg>
      <dl>
        <div><dt><i class="key out"></i>Acknowledged</dt><dd id="rate-out">–</dd></div>
        <div><dt>Last one</dt><dd id="last-ack">–</dd></div>
      </dl>
    </article>
    <article>
      <h2>Buffer</h2>
      <p class="figure"><b id="disk-share">–</b> used</p>
      <div id="disk-bar" class="bar" role="meter" aria-label="Buffer used" aria-valuemin="0" aria-valuemax="100"><span id="disk-fill"></span></div>
      <dl>
        <div><dt>File</dt><dd id="disk-used">–</dd></div>
        <div><dt>Full in</dt><dd id="to-full">–</dd></div>
        <div><dt>Volume</dt><dd id="disk-free">–</dd></div>
      </dl>
    </article>
    <article>
      <h2>Uplink</h2>
      <p class="figure"><span id="uplink-state" class="pill">–</span></p>
      <dl>
        <div><dt>Since</dt><dd id="uplink-since">–</dd></div>
        <div><dt>Batches in flight</dt><dd id="uplink-flight">–</dd></div>
        <div><dt>Sent, of these again</dt><dd id="uplink-sent">–</dd></div>
      </dl>
      <p id="uplink-detail" class="faint"></p>
    </article>
  </section>

  <section aria-labelledby="sums-title">
    <h2 id="sums-title">Sums <span id="balanced" class="pill">–</span></h2>
    <p class="faint">Every record that came in, by what became of it.</p>
    <div id="sums"></div>
  </section>

  <section aria-labelledby="doors-title">
    <h2 id="doors-title">Doors</h2>
    <div class="scroll" role="region" aria-labelledby="doors-title" tabindex="0">
      <table>
        <thead><tr><th scope="col">Door</th><th scope="col">State</th><th scope="col" class="number">Messages</th><th scope="col">Detail</th></tr></thead>
        <tbody id="doors"></tbody>
      </table>
    </div>
    <p id="intake" class="faint"></p>
  </section>

  <section aria-labelledby="latest-title">
    <h2 id="latest-title">Latest values <span id="latest-count" class="faint"></span></h2>
    <div class="scroll" role="region" aria-labelledby="latest-title" tabindex="0">
      <table>
        <thead><tr><th scope="col">Sensor</th><th scope="col" class="number">Value</th><th scope="col">Quality</th><th scope="col">Measured</th></tr></thead>
        <tbody id="latest"></tbody>
      </table>
    </div>
    <p id="latest-none" class="faint" hidden>Nothing has arrived since the start.</p>
  </section>
</main>
<footer class="faint">
  <span id="about"></span>
  <nav aria-label="For machines"><a href="/health">/health</a> <a href="/health/ready">/health/ready</a> <a href="/health/live">/health/live</a> <a href="/metrics">/metrics</a></nav>
</footer>`
