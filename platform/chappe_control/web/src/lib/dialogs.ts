/** Buttons with `data-opens` show the dialog of that id; `data-closes` closes the one around it. */
export function startDialogs(): void {
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element)) return;
    const opener = event.target.closest<HTMLElement>("[data-opens]");
    const dialog = opener && document.getElementById(opener.dataset["opens"] ?? "");
    if (dialog instanceof HTMLDialogElement) dialog.showModal();
    if (event.target.closest("[data-closes]")) event.target.closest("dialog")?.close();
    // A click on the backdrop lands on the dialog itself; its content fills all of it.
    if (event.target instanceof HTMLDialogElement) event.target.close();
  });
}
