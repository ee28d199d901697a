// What leaves the studio as files: CSV and PNG.

/** A CSV text (RFC 4180). Cells that a spreadsheet would run as a formula are kept as text by a leading quote. */
export function csv(header: string[], rows: (string | number | null)[][]): string {
  const cell = (value: string | number | null): string => {
    if (value === null || (typeof value === 'number' && Number.isNaN(value))) return '';
    if (typeof value === 'number') return String(value);
    const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [header, ...rows].map((row) => row.map(cell).join(',')).join('\r\n') + '\r\n';
}

export function save(name: string, content: Blob): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(content);
  link.download = fileName(name);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function fileName(name: string): string {
  return name.replace(/[^\w.-]+/g, '-').replace(/^[-.]+/, '') || 'ridgeline';
}

export function saveText(name: string, text: string, type = 'text/csv'): void {
  save(name, new Blob([text], { type: `${type};charset=utf-8` }));
}

/** A chart's canvas with a title line above it, on the paper's colour. */
export function savePng(name: string, title: string, canvas: HTMLCanvasElement, colours: { paper: string; ink: string }): void {
  const scale = canvas.width / canvas.clientWidth || 1;
  const out = document.createElement('canvas');
  const top = 36 * scale;
  const pad = 12 * scale;
  out.width = canvas.width + 2 * pad;
  out.height = canvas.height + top + pad;
  const context = out.getContext('2d')!;
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, out.width, out.height);
  context.fillStyle = colours.ink;
  context.font = `600 ${14 * scale}px "Inter Variable", sans-serif`;
  context.fillText(title, pad, 24 * scale);
  context.drawImage(canvas, pad, top);
  out.toBlob((blob) => blob && save(name, blob));
}

/** An SVG element as a file of its own: the colours of the theme are written into it. */
export function svgText(svg: SVGSVGElement): string {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  const originals = [svg, ...svg.querySelectorAll<SVGElement>('*')];
  const copies = [copy, ...copy.querySelectorAll<SVGElement>('*')];
  const KEPT = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'opacity', 'font-size', 'font-weight', 'text-anchor'];
  copies.forEach((element, index) => {
    const computed = getComputedStyle(originals[index]!);
    for (const property of KEPT) element.setAttribute(property, computed.getPropertyValue(property));
    element.removeAttribute('class');
  });
  copy.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  copy.setAttribute('font-family', 'Inter, sans-serif');
  return new XMLSerializer().serializeToString(copy);
}

export async function saveSvgAsPng(name: string, svg: SVGSVGElement, paper: string): Promise<void> {
  const { width, height } = svg.getBoundingClientRect();
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([svgText(svg)], { type: 'image/svg+xml' }));
  await image.decode();
  const canvas = document.createElement('canvas');
  canvas.width = width * 2;
  canvas.height = height * 2;
  const context = canvas.getContext('2d')!;
  context.fillStyle = paper;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  canvas.toBlob((blob) => blob && save(name, blob));
}
