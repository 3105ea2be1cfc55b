"""The page of the data."""


def test_the_data_page_leads_to_the_files_and_says_how_to_cite(board, site, folder):
    page = site["data.html"]
    year = max(record.provenance.finished for row in board.rows for record in row.records)[:4]

    assert {"data.csv", "data.json"} <= set(page.values("href"))
    assert f"year = {{{year}}}" in page.text
    assert (folder / "data.csv").is_file()
