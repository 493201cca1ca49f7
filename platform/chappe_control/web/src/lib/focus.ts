/** A form that came back with errors: the first wrong field has the focus, so that it is read out with its error. */
export function startFocus(): void {
  document.querySelector<HTMLElement>("form [aria-invalid='true'], form [data-form-error]")?.focus();
}
