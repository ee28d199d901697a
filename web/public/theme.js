// Runs before the first paint, so that a page opened in the dark theme never flashes white. A file, because the
// server's content security policy allows no inline script.
(function () {
  var wanted = new URLSearchParams(location.search).get('theme');
  try {
    wanted = wanted || localStorage.getItem('ridgeline.theme');
  } catch (error) {
    wanted = wanted || null;
  }
  if (wanted !== 'light' && wanted !== 'dark') {
    wanted = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  }
  document.documentElement.dataset.theme = wanted;
})();
